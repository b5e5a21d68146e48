"""Text that comes from outside, on a line of a message, a log or a terminal.

Handles, names of files and of hosts, and what servers answer may hold anything: line ends that
make a false line, escape sequences that a terminal obeys, letters that swap what follows them.
"""

from __future__ import annotations


def printable(text: str) -> str:
    r"""`text` on one line, as letters only: what is none is written as Python does, such as \n."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
