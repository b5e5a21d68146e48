"""The process that is making an entry, as a lock names it, and whether it exists."""

from __future__ import annotations

import os
import re
import socket
import uuid
from typing import NamedTuple

TENSORFLOW_HUB_TIMEOUT = 600.0
"""Seconds without growth of its folder after which tensorflow_hub takes a process for crashed."""

_MARK = "cache-"


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
        """Whether its process lives, if it is one of this machine.

        On Windows it does: there, only a signal that ends a process shows that it exists.
        """
        if os.name == "nt":
            return True
        try:
            os.kill(self.pid, 0)
        except (OSError, OverflowError) as error:  # it may be another user's
            return not isinstance(error, ProcessLookupError)
        return True

    def __str__(self) -> str:
        return f"{self.host}.{self.pid}.{self.uid}"
