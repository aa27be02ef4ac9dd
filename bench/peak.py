"""Run a command; print its exit code, its seconds and its peak resident memory in bytes, as JSON.

A program of its own and a small one: a child's peak begins with that of whoever started it.
"""

import json
import os
import sys
import time

if __name__ == "__main__":
    start = time.perf_counter()
    child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
    _, status, usage = os.wait4(child, 0)
    elapsed = time.perf_counter() - start
    print(json.dumps([os.waitstatus_to_exitcode(status), elapsed, usage.ru_maxrss * 1024]), file=sys.stderr)
