"""How HTTP servers are asked."""

from __future__ import annotations

from typing import NamedTuple


class Access(NamedTuple):
    """What the user has set about requests.

    Attributes:
        timeout: seconds without a byte after which a request is given up.
        min_rate: bytes per second that a server must send, on average over five times as long,
            while it is waited for; 0: any number.
        verify: the file or folder with the CA certificates that count; True: those that the system
            trusts, and certifi's; False: no certificate is checked.
    """

    timeout: float
    min_rate: float
    verify: bool | str
