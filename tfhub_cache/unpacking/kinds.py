"""Files that are taken for a SavedModel or its archive: what they are, and what they are used with.

Their first bytes say it, as names of files and types of servers' answers often do not.
"""

from __future__ import annotations

from typing import NamedTuple

LONGEST_MAGIC = 8
"""How many bytes of a file are needed to know its kind."""


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: what it is, for messages.
        use: what to do with the file, for messages; empty if there is nothing to do with it.
    """

    name: str
    use: str


_KINDS = {
    (0, b"PK\3\4"): Kind(
        "a zip archive",
        "unzip it and pass the folder with saved_model.pb; or, if it is a .keras file, call "
        "tf.keras.models.load_model",
    ),
    (4, b"TFL3"): Kind("a TensorFlow Lite model", "run it with tf.lite.Interpreter"),
    (0, b"\x89HDF\r\n\x1a\n"): Kind("an HDF5 file", "call tf.keras.models.load_model"),
    (0, b"<"): Kind("a web page", ""),
}
"""By a position in the file, and the bytes there."""


def kind_of(head: bytes) -> Kind | None:
    """The kind of a file with these first bytes, if it is known and neither tar nor compressed."""
    found = (kind for (start, magic), kind in _KINDS.items() if head[start:].startswith(magic))
    return next(found, None)
