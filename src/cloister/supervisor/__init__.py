"""One process per enclave: it measures, boots, serves the devices, signs documents, and cleans up.

Only what starting needs is imported here; the rest is loaded in the supervisor, while QEMU comes up.
"""

from cloister.supervisor.daemon import News, launch
from cloister.supervisor.request import RunRequest

__all__ = ["News", "RunRequest", "launch"]
