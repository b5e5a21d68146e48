"""What runs in a contestant's process: `python -m benchmarks.worker LIBRARY HANDLE...`.

It imports the library, says "ready", waits for a line on stdin, resolves one handle after the
other, and reports the outcome in JSON.
"""

import importlib
import sys
import time

from benchmarks import memory


def main(library: str, *handles: str) -> None:
    hub = importlib.import_module(library)
    print("ready", flush=True)
    sys.stdin.readline()
    before = memory.resident()
    seconds = []
    error = ""
    for handle in handles:
        begun = time.perf_counter()
        try:
            hub.resolve(handle)
        except (OSError, ValueError) as raised:
            error = f"{type(raised).__name__}: {raised}"
            break
        seconds.append(time.perf_counter() - begun)
    finished = time.monotonic()
    growth = memory.peak() - before

    import json  # now that nothing is measured any more

    outcome = {"seconds": seconds, "finished": finished, "growth": growth, "error": error}
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(*sys.argv[1:])
