"""The process that is making an entry: how a lock names it, and how long it has been silent."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import uuid
from typing import NamedTuple

TENSORFLOW_HUB_TIMEOUT = 600.0
"""Seconds without growth of its folder after which tensorflow_hub takes a process for crashed."""

_MARK = "cache-"
_LONG_AGO = 3600.0
"""Seconds after which a sign of life is not waited for."""


class Owner(NamedTuple):
    """The process that made a lock file, as its content names it."""

    host: str
    pid: int
    uid: str

    @classmethod
    def new(cls) -> Owner:
        """This process; by the mark in its uid our locks are known from tensorflow_hub's."""
        return cls(socket.gethostname(), os.getpid(), _MARK + uuid.uuid4().hex)

    @classmethod
    def parse(cls, content: str) -> Owner | None:
        """The owner named by a lock file's content, or None if it is not of that form."""
        match = re.fullmatch(r"(.+)\.([0-9]{1,10})\.([0-9a-zA-Z-]+)", content)
        return cls(match[1], int(match[2]), match[3]) if match else None

    @property
    def is_ours(self) -> bool:
        return self.uid.startswith(_MARK)

    @property
    def is_here(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def is_this_process(self) -> bool:
        return self.is_here and self.pid == os.getpid()

    def process_exists(self) -> bool:
        """Whether its process lives, if it is one of this machine."""
        if sys.platform == "win32":
            import ctypes

            kernel = ctypes.windll.kernel32
            limited_information = 0x1000
            handle = kernel.OpenProcess(limited_information, False, self.pid)
            if handle:
                kernel.CloseHandle(handle)
            return bool(handle)
        try:
            os.kill(self.pid, 0)
        except (OSError, OverflowError) as error:  # it may be another user's
            return not isinstance(error, ProcessLookupError)
        return True

    def __str__(self) -> str:
        return f"{self.host}.{self.pid}.{self.uid}"


class Silence:
    """How long a process has given no sign of life.

    It is measured with our own clock, from when a sign was first seen, since the clocks of two
    machines differ.
    """

    def __init__(self) -> None:
        self._sign: object = None
        self._seen = 0.0

    def exceeds(self, patience: float, sign: object, time_of_sign: float) -> bool:
        """Whether there has been no new sign for `patience` seconds.

        Args:
            patience: seconds.
            sign: what changes with each sign of life.
            time_of_sign: when it was given, by whatever clock. Not trusted unless it is long ago.
        """
        now = time.monotonic()
        if sign != self._sign:
            self._sign, self._seen = sign, now
        return now - self._seen > patience or time.time() - time_of_sign > _LONG_AGO + patience
