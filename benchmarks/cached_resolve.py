"""What it costs to resolve a model that is in the cache, side by side with tensorflow_hub.

Run it with `make bench`. The model has five files, as a small SavedModel has. Each library runs
in processes of its own, in turn, and resolves the same folder; the median of all runs is told.
"""

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HANDLE = "https://tfhub.dev/google/nnlm-en-dim128/2"
FILES = [
    "saved_model.pb",
    "fingerprint.pb",
    "assets/tokens.txt",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
]
ROUNDS = 5
MEASURE = """
import sys, time
import {library} as hub
hub.resolve(sys.argv[1])
repeat = 10_000
begin = time.perf_counter()
for _ in range(repeat):
    hub.resolve(sys.argv[1])
print((time.perf_counter() - begin) / repeat * 1e6)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TFHUB_CACHE_DIR"] = cache
        make_entry(Path(cache))
        figures: dict[str, list[float]] = {"tensorflow_hub": [], "tfhub_cache": []}
        for _ in range(ROUNDS):
            for library, runs in figures.items():
                runs.append(measure(library))
    print(f"Resolving a cached model of {len(FILES)} files, microseconds, median of {ROUNDS}:")
    for library, runs in figures.items():
        print(
            f"  {library:15}{statistics.median(runs):6.1f}   ({min(runs):.1f} to {max(runs):.1f})"
        )


def make_entry(cache: Path) -> None:
    """Puts the model into the cache, with the manifest that a download would write."""
    from tfhub_cache.manifest import Archive, File, Manifest, Origin

    entry = cache / hashlib.sha1(HANDLE.encode()).hexdigest()
    for name in FILES:
        (entry / name).parent.mkdir(parents=True, exist_ok=True)
        (entry / name).write_bytes(b"x" * 1000)
    manifest = Manifest(
        handle=HANDLE,
        url=HANDLE,
        archive=Archive(0, ""),
        files=tuple(File(name, 1000, "") for name in FILES),
        downloaded=Origin("", "", 0, ""),
    )
    Path(f"{entry}.manifest.json").write_text(manifest.to_json())


def measure(library: str) -> float:
    """The microseconds of one resolve, in a process of its own."""
    code = MEASURE.format(library=library)
    done = subprocess.run(
        [sys.executable, "-c", code, HANDLE], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
