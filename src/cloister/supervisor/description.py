"""How an enclave is described: nitro-cli's JSON, field by field and in its order (nitro-tools 1.4)."""

from dataclasses import dataclass, replace
from typing import Any

from cloister.eif import ImageMetadata
from cloister.measure import Measurements


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a running enclave."""

    name: str
    enclave_id: str
    pid: int
    cid: int
    cpus: tuple[int, ...]
    memory_mib: int
    debug: bool
    state: str = "EMPTY"

    def with_state(self, state: str) -> "Description":
        """Return the same in another of nitro-cli's states: EMPTY, RUNNING, TERMINATING."""
        return replace(self, state=state)

    def run_json(self) -> dict[str, Any]:
        """Return what run-enclave prints."""
        return {
            "EnclaveName": self.name,
            "EnclaveID": self.enclave_id,
            "ProcessID": self.pid,
            "EnclaveCID": self.cid,
            "NumberOfCPUs": len(self.cpus),
            "CPUIDs": list(self.cpus),
            "MemoryMiB": self.memory_mib,
        }

    def describe_json(self, measurements: Measurements) -> dict[str, Any]:
        """Return what describe-enclaves prints; the registers are the image's, in debug mode too."""
        flags = "DEBUG_MODE" if self.debug else "NONE"
        state = {"State": self.state, "Flags": flags, "Measurements": measurements.to_json()}
        return self.run_json() | state

    def terminated_json(self) -> dict[str, Any]:
        """Return what terminate-enclave prints."""
        return {"EnclaveName": self.name, "EnclaveID": self.enclave_id, "Terminated": True}


def metadata_json(metadata: ImageMetadata | None) -> dict[str, Any]:
    """Return what ``--metadata`` adds."""
    if metadata is None:
        return {}
    build = metadata.build
    fields = {
        "BuildTime": build.build_time,
        "BuildTool": build.build_tool,
        "BuildToolVersion": build.build_tool_version,
        "OperatingSystem": build.operating_system,
        "KernelVersion": build.kernel_version,
        "DockerInfo": metadata.docker_info,
    }
    custom = metadata.custom if isinstance(metadata.custom, dict) else {}
    shown = {"ImageName": metadata.image_name, "ImageVersion": metadata.image_version}
    return shown | {"Metadata": fields | custom}
