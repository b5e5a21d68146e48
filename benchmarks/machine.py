"""What a report says of where it was made: no name of a host, no path."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from benchmarks import contestants, memory, server

_PACKAGES = (
    "tensorflow_hub",
    "tensorflow-cpu",
    "tfhub-cache",
    "requests",
    "urllib3",
    "isal",
    "filelock",
)


def describe(disk: Path) -> dict[str, str]:
    """The machine: processor, memory, kernel, file system of the caches."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory.machine('MemTotal') / (1 << 30):.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _file_system(disk),
    }


def versions() -> dict[str, str]:
    """The versions of all that takes part."""
    tools = ["curl", contestants.inflater(), "tar"]
    return {
        "Python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES if _is_installed(package)},
        **{tool: _version_of(tool) for tool in tools if shutil.which(tool)},
        "server": server.name(),
    }


def commit() -> dict[str, str]:
    """The commit that was measured, and when."""
    # The report itself may differ, since it is what is being made.
    changed = _git("status", "--porcelain", "--", ".", ":!docs/benchmarks.*")
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD") + (" and changes" if changed else ""),
        "date": now.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _file_system(path: Path) -> str:
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    above = [
        (folder, kind) for _, folder, kind, *_ in mounts if path.resolve().is_relative_to(folder)
    ]
    return max(above, key=lambda mount: len(mount[0]))[1]


def _is_installed(package: str) -> bool:
    try:
        return bool(version(package))
    except ImportError:
        return False


def _version_of(tool: str) -> str:
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "?"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()
