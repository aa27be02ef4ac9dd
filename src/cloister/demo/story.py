"""The main job, told in seven steps: only the image a key was made for gets the secret."""

import hmac
import json
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cloister.demo.administrator import Sealed, seal_secret
from cloister.demo.leftovers import Traces, find_leftovers, observe
from cloister.demo.session import DemoError, Running, Session, stop
from cloister.kms import Account

PROXY_PORT = 8000
CREDENTIALS = "role-credentials"
HELLO = "Hello from the enclave side!"
CONSOLE_SECONDS = 60.0
CONSOLE_HEAD = 6
CONSOLE_TAIL = 4


@dataclass(slots=True)
class Story:
    """The demo's state from step to step."""

    session: Session
    work: Path
    run_directory: Path
    account: Account
    pcrs: dict[str, str] = field(default_factory=dict)
    endpoint: str = ""
    sealed: Sealed | None = None
    enclaves: list[dict[str, Any]] = field(default_factory=list)

    def tell(self) -> None:
        """Play all seven steps; DemoError from the first that does not end as it must."""
        self.build()
        self.make_key()
        self.run_enclave()
        self.release_secret()
        self.refuse_others()
        self.read_console()
        self.terminate()

    def build(self) -> None:
        """Step 1: an image, and its measurements."""
        self.session.begin(1, "Build the enclave image, without Docker and without root")
        self.pcrs = self.build_image("examples/secret", "secret.eif")
        self.session.say("PCR0 measures the whole image, PCR1 kernel and boot ramdisk, PCR2 the application.")

    def make_key(self) -> None:
        """Step 2: KMS, and a key whose policy names those measurements."""
        self.session.begin(2, "A key that only this image may decrypt with")
        log = self.work / "logs/kms.log"
        (self.work / CREDENTIALS).symlink_to(self.account.enclave)
        self.endpoint = self.session.serve("cloister", "kms", "serve", "--port", "0", log=log)
        self.sealed = seal_secret(self.session, self.account, self.endpoint, self.pcrs)
        (self.work / "secret.enc").write_bytes(self.sealed.ciphertext)
        address = urlsplit(self.endpoint)
        allow = f"allowlist:\n- {{address: {address.hostname}, port: {address.port}}}\n"
        (self.work / "proxy.yaml").write_text(allow)
        self.session.start(
            *("vsock-proxy", "--config", "proxy.yaml"),
            *(str(PROXY_PORT), str(address.hostname), str(address.port)),
            log=self.work / "logs/vsock-proxy.log",
            ready=(self.run_directory / "vsock/3" / str(PROXY_PORT)).exists,
        )
        self.session.say(
            "The enclave has no network; it reaches KMS through the parent's proxy. For now that link is\n"
            "plain HTTP: the parent can read the calls, but not the secret: KMS seals it to a key made in\n"
            "the enclave."
        )

    def run_enclave(self) -> None:
        """Step 3: boot it."""
        self.session.begin(3, "Run it")
        self.start("secret.eif", memory=512)
        self.session.run("nitro-cli", "describe-enclaves")

    def release_secret(self) -> None:
        """Step 4: the enclave attests, decrypts, and proves it."""
        self.session.begin(4, "The enclave gets the secret and proves it, without showing it")
        answer = json.loads(self.session.run(*self.ask(self.enclaves[0])).stdout)
        assert self.sealed is not None
        expected = hmac.digest(self.sealed.secret, bytes.fromhex(answer["challenge"]), "sha256").hex()
        if not hmac.compare_digest(expected, answer["proof"]):
            raise DemoError("the enclave's proof is not HMAC-SHA256(secret, challenge)")
        self.session.say("The proof is HMAC-SHA256(secret, challenge): the enclave holds the secret.")

    def refuse_others(self) -> None:
        """Step 5: a changed image, debug mode, and no document are denied."""
        self.session.begin(5, "Nobody else gets it")
        self.session.say("The right image in debug mode, which boots while we look at another one:")
        debugged = self.launch(
            "secret.eif", "--debug-mode", "--enclave-name", "debugged", memory=512, background=True
        )
        self.session.say("\nOne byte of the application changed:")
        changed = change_one_byte(self.work)
        self.session.run("cmp", "-l", "examples/secret/app.py", f"{changed}/app.py", expect=1)
        self.build_image(changed, "changed.eif")
        self.start("changed.eif", memory=512)
        self.expect_denial(self.enclaves[1])
        self.session.say("\nThe enclave in debug mode, where the parent could watch it:")
        self.show_started(debugged)
        self.expect_denial(self.enclaves[2])
        self.session.say("\nThe right enclave, but without an attestation document:")
        self.expect_denial(self.enclaves[0], "--without-document")

    def read_console(self) -> None:
        """Step 6: a debug enclave's console."""
        self.session.begin(6, "A debug enclave's console")
        self.build_image("examples/hello", "hello.eif")
        self.start("hello.eif", "--debug-mode", memory=128)
        words = ("nitro-cli", "console", "--enclave-name", "hello")
        self.session.show_command(words)
        lines = follow_console(self.session.spawn(*words))
        hidden = lines[CONSOLE_HEAD:-CONSOLE_TAIL]
        if hidden:
            lines[CONSOLE_HEAD:-CONSOLE_TAIL] = [f"[... {len(hidden)} more lines ...]"]
        self.session.say("\n".join(lines))

    def terminate(self) -> None:
        """Step 7: end everything, and look."""
        self.session.begin(7, "Terminate, and look for leftovers")
        traces = self.observe()
        self.session.run("nitro-cli", "terminate-enclave", "--all")
        self.session.run("nitro-cli", "describe-enclaves")
        places = [self.work / name for name in ("tmp", "artifacts")]
        for kind, found in wait_until_gone(traces, self.run_directory, places).items():
            if found:
                raise DemoError(f"{kind} are left: {'; '.join(found[:5])}")
            self.session.say(f"{kind + ':':<16}{traces.seen(kind)}none left")
        self.session.stop_all()
        self.session.say("KMS and proxy are stopped.")

    def build_image(self, source: str, output: str) -> dict[str, str]:
        """Build an image with ``cloister image build`` and return its PCR0 to PCR2."""
        words = ("cloister", "image", "build", source, "--output", output)
        printed = self.session.run(*words).stdout
        pcrs = dict(line.split()[:2] for line in printed.splitlines() if line.startswith("PCR"))
        if not {"PCR0", "PCR1", "PCR2"} <= set(pcrs):
            raise DemoError(f"'{' '.join(words)}' printed no measurements")
        return {name: pcrs[name] for name in ("PCR0", "PCR1", "PCR2")}

    def launch(self, image: str, *options: str, memory: int, background: bool = False) -> Running:
        """Show and start ``nitro-cli run-enclave``; its output is for ``show_started``."""
        words = ["nitro-cli", "run-enclave", "--cpu-count", "2", "--memory", str(memory), "--eif-path", image]
        words += options
        self.session.show_command(words, background=background)
        return self.session.spawn(*words)

    def start(self, image: str, *options: str, memory: int) -> None:
        """Run an enclave and show it."""
        self.show_started(self.launch(image, *options, memory=memory))

    def show_started(self, running: Running) -> None:
        """Wait for ``run-enclave``, show what it printed, and keep it."""
        outcome = self.session.show(self.session.finish(running))
        self.enclaves.append(json.loads(outcome.stdout))

    def ask(self, enclave: dict[str, Any], *options: str) -> list[str]:
        """Return the command line that asks an enclave for its proof."""
        assert self.sealed is not None
        words = ["python", "examples/secret/parent.py", "--cid", str(enclave["EnclaveCID"])]
        words += ["--proxy-port", str(PROXY_PORT), "--endpoint", urlsplit(self.endpoint).netloc]
        words += ["--credentials", CREDENTIALS]
        words += ["--key-id", self.sealed.key_arn, "--ciphertext", "secret.enc"]
        return [*words, *options]

    def expect_denial(self, enclave: dict[str, Any], *options: str) -> None:
        """Ask, expect KMS's refusal, and show why."""
        outcome = self.session.run(*self.ask(enclave, *options), expect=1)
        code = json.loads(outcome.stdout).get("error", {}).get("code")
        if code != "AccessDeniedException":
            raise DemoError(f"KMS answered {code}, AccessDeniedException was expected")
        self.session.say("Why? The service's decision log says:")
        why = self.session.run("cloister", "kms", "decisions", "--denied", "--last", "1")
        if "OnlyThisImageMayDecrypt" not in why.stdout or "failed" not in why.stdout:
            raise DemoError("the decision log does not name the statement and the condition that failed")

    def observe(self) -> Traces:
        """Record what the running enclaves use."""
        pids = [enclave["ProcessID"] for enclave in self.enclaves]
        return observe(pids, [enclave["EnclaveID"].rpartition("-enc")[2] for enclave in self.enclaves])


def change_one_byte(work: Path) -> str:
    """Copy the example with one byte of its application changed, and return the copy's name."""
    copy = work / "changed"
    shutil.copytree(work / "examples/secret", copy)
    program = copy / "app.py"
    content = bytearray(program.read_bytes())
    content[content.index(b"The enclave")] ^= 0x20
    program.write_bytes(content)
    return copy.name


def follow_console(running: Running) -> list[str]:
    """Read a console until the program has spoken twice, then leave it; DemoError when it does not."""
    assert running.process.stdout is not None
    timer = threading.Timer(CONSOLE_SECONDS, running.process.kill)
    timer.start()
    lines: list[str] = []
    try:
        for line in running.process.stdout:
            lines.append(line.decode(errors="replace").rstrip())
            if sum(HELLO in seen for seen in lines) >= 2:
                return lines
    finally:
        timer.cancel()
        stop(running.process)
    raise DemoError(f"the console said {HELLO!r} fewer than twice in {CONSOLE_SECONDS:g} s")


def wait_until_gone(traces: Traces, run: Path, scratch: list[Path]) -> dict[str, list[str]]:
    """Look until nothing is left, for at most two seconds: the kernel reaps in its own time."""
    deadline = time.monotonic() + 2.0
    while True:
        found = find_leftovers(traces, run=run, scratch=scratch)
        if not any(found.values()) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
