"""Child processes of tests."""

from __future__ import annotations

import dataclasses
import subprocess
import sys


@dataclasses.dataclass(frozen=True)
class Finished:
    """A child process that has ended."""

    stdout: str
    stderr: str
    returncode: int

    def check(self) -> Finished:
        """Fails, with all that was written, unless the process succeeded."""
        assert self.returncode == 0, f"status {self.returncode}\n{self.stdout}\n{self.stderr}"
        return self


def dead_pid() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid
