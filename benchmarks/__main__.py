"""`make bench`: measures, and writes docs/benchmarks.md, its chart and the raw figures."""

from __future__ import annotations

import argparse
import compileall
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import contestants, machine, report
from benchmarks.contestants import ROOT
from benchmarks.models import Models
from benchmarks.progress import say
from benchmarks.results import OURS
from benchmarks.server import serve
from benchmarks.steps import Step
from benchmarks.works import WORKS, Bench

_KEPT = ROOT / "build" / "bench"
_DISK_NEEDED = 6_000_000_000
_TOOLS = [("nginx", "nginx", "a server of our own"), ("igzip", "isal", "gzip, which is slower,")]


def main() -> None:
    options = _options()
    published = ROOT / "docs"
    if options.render:
        raw = (published / "benchmarks.json").read_text()
        report.write(report.Results.from_json(raw), published)
        return
    _KEPT.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(_KEPT).free
    if free < _DISK_NEEDED and not options.quick:
        sys.exit(f"{free / 1e9:.1f} GB are free in {_KEPT}, and {_DISK_NEEDED / 1e9:g} are needed.")

    names = options.only or list(WORKS)
    for tool, package, instead in _TOOLS:
        if not shutil.which(tool):
            say(f"{tool} is not installed (in Debian: {package}); {instead} takes its place")
    # As pip does for every package that it installs, but not for one that is edited in place.
    compileall.compile_dir(str(ROOT / "tfhub_cache"), quiet=1)
    results = _measure(names, options.rounds, quick=options.quick)
    # A part, or small models, must not take the place of the whole.
    whole = not options.only and not options.quick
    folder = published if whole else _KEPT / "report"
    report.write(results, folder)
    print(report.table(results))
    say(f"written: {folder.relative_to(ROOT)}/benchmarks.md, .svg and .json")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", usage='make bench ARGS="[options]"', description=__doc__
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=WORKS,
        metavar="ROW",
        help=f"measure these only, and write into build/bench/report: {', '.join(WORKS)}",
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument(
        "--quick", action="store_true", help="small models, to try it out; not into docs/ either"
    )
    parser.add_argument(
        "--render", action="store_true", help="write the page from docs/benchmarks.json"
    )
    return parser.parse_args()


def _measure(names: list[str], rounds: int, *, quick: bool) -> report.Results:
    archives = _KEPT / "models"
    models = (
        Models(archives, weights=16, vocabulary=2, bulk=100)
        if quick
        else Models(archives, weights=256, vocabulary=30, bulk=2000)
    )
    archives.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=_KEPT, prefix="caches.") as caches,
        serve(archives) as hosts,
    ):
        bench = Bench(models, hosts, Path(caches), rounds, processes=4 if quick else 16)
        rows = [row for name in names for row in WORKS[name](bench)]
        return report.Results(
            rounds=rounds,
            vocabulary=models.vocabulary,
            names=contestants.names(),
            rows=rows,
            steps=_steps(bench) if "cached" in names else [],
            machine=machine.describe(_KEPT),
            versions=machine.versions(),
            commit=machine.commit(),
        )


def _steps(bench: Bench) -> list[Step]:
    say("where the microseconds of a cached resolve go")
    handle = f"{bench.hosts.free}/{bench.models.small().name}"
    with bench.cache() as cache:
        contestants.resolve(OURS, cache, handle)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.steps", handle],
            env=contestants.environment(cache),
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
    return [Step(**step) for step in json.loads(done.stdout)]


if __name__ == "__main__":
    main()
