"""Standing in for every process of an environment, by one file in its site-packages.

At its start, each Python process runs those lines of the `.pth` files there that begin with
`import`. The line puts the stand-in's folder before all others, and imports nothing. It needs
nothing of this library, so Python also starts where the library was removed in the meantime.
"""

from __future__ import annotations

import os
import site
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from tfhub_cache.stand_in.installing import FOLDER

_LINES = """\
# `tfhub-cache stand-in enable` made this file, and `tfhub-cache stand-in disable` removes it.
import sys; {folder} in sys.path or sys.path.insert(0, {folder})
"""
_LOOK = """\
import sys
from importlib.machinery import PathFinder
for left_out in [""], ["", sys.argv[1]]:
    path = [folder for folder in sys.path if folder not in left_out]
    spec = PathFinder.find_spec("tensorflow_hub", path)
    print(spec and spec.origin or "")
"""


class Status(NamedTuple):
    """What `import tensorflow_hub` gives in the processes of an environment.

    Attributes:
        files: the files that make it give this library: that of `enable`, and that of the
            distribution tfhub-cache-stand-in.
        imported: the file that a new process imports; "" if there is none.
        hidden: the file that it would import otherwise; "" if there is none.
    """

    files: list[str]
    imported: str
    hidden: str

    @property
    def is_ours(self) -> bool:
        """Whether a new process imports this library."""
        return self.imported.startswith(FOLDER + os.sep)


def enable() -> None:
    """Makes `import tensorflow_hub` import this library in all processes of this environment.

    Processes that are running already don't notice. Doing it again does nothing.

    Raises:
        RuntimeError: if the environment is the system's, which its package manager looks after.
        OSError: if the file can't be written.
    """
    file = _made_by_enable()
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")  # PEP 668
    if sys.prefix == sys.base_prefix and marker.exists():
        raise RuntimeError(_refusal(f"the system's package manager looks after it ({marker})"))
    unfinished = file.with_suffix(f".{os.getpid()}.tmp")  # Python reads what ends in .pth only
    try:
        unfinished.write_text(_LINES.format(folder=ascii(FOLDER)), encoding="ascii")
        unfinished.replace(file)
    except OSError as error:
        raise OSError(_refusal(f"{file} can't be written: {error.strerror}")) from error


def disable() -> None:
    """Removes what `enable` made in this environment, if it is there.

    Raises:
        OSError: if it can't be removed.
    """
    _made_by_enable().unlink(missing_ok=True)


def status() -> Status:
    """What is in force in this environment, as a new process sees it."""
    command = [sys.executable, "-X", "utf8", "-c", _LOOK, FOLDER]
    seen = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True)  # noqa: S603
    file = _made_by_enable()
    files = [str(one) for one in (file, file.with_stem("tfhub_cache_stand_in")) if one.exists()]
    return Status(files, *seen.stdout.splitlines())


def _made_by_enable() -> Path:
    """The file of `enable`, beside the packages of one user where tfhub-cache is one of them."""
    of_user = site.getusersitepackages()
    is_of_user = sys.prefix == sys.base_prefix and FOLDER.startswith(of_user + os.sep)
    folder = of_user if is_of_user else sysconfig.get_path("purelib")
    return Path(folder, "tfhub_cache_enabled.pth")


def _refusal(reason: str) -> str:
    return (
        f"The stand-in can't be enabled in {sys.prefix}: {reason}. Enable it in a virtual "
        "environment, or start programs with: python -m tfhub_cache run script.py"
    )
