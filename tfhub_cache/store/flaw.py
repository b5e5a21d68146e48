"""What is wrong with an entry: a kind and its details, from which the text is made when shown."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass

MODEL_FILES = frozenset({"saved_model.pb", "saved_model.pbtxt", "tfhub_module.pb"})
"""The files of which a model has at least one."""


class FlawKind(enum.Enum):
    """The kinds of flaw, each with its text; the details go where the braces are."""

    ABSENT = "there is no entry"
    PLANTED_LINK = "another user has put a link in its place"
    MANIFEST_UNREADABLE = "its manifest can't be read"
    NOT_PERMITTED = "the permission is missing to read {}"  # it may be whole, but another user's
    UNREADABLE = "{} can't be read: {}"
    MISSING = "{} is missing"
    NOT_REGULAR = "{} is not a regular file"
    OTHER_SIZE = "{} has {} bytes instead of {}"
    NO_MODEL = "it contains neither 'saved_model.pb' nor 'saved_model.pbtxt'"
    SHARDS_MISSING = "variables holds {} of {} data files"
    CONTENT_UNREADABLE = "{}"
    OTHER_FILES = "it has {}"


@dataclass(frozen=True)
class Flaw:
    """Why an entry can't be used."""

    kind: FlawKind
    details: tuple[object, ...] = ()

    @property
    def summary(self) -> str:
        """What the entry is, in a word or two."""
        if self.kind in (FlawKind.NOT_PERMITTED, FlawKind.CONTENT_UNREADABLE):
            return "unreadable"
        return "not as locked" if self.kind is FlawKind.OTHER_FILES else "damaged"

    def __str__(self) -> str:
        return self.kind.value.format(*self.details)


ABSENT = Flaw(FlawKind.ABSENT)
"""The flaw of an entry that is not there."""


def flaw_without_manifest(names: Collection[str], variables: Collection[str]) -> Flaw | None:
    """What a folder lacks to be a SavedModel, as far as the names of its files say.

    Args:
        names: what is in the folder itself.
        variables: what is in its folder `variables`; nothing if there is none.
    """
    if MODEL_FILES.isdisjoint(names):
        return Flaw(FlawKind.NO_MODEL)
    if not variables:
        return None
    if "variables.index" not in variables:
        return Flaw(FlawKind.MISSING, ("variables/variables.index",))
    shards = [name for name in variables if name.startswith("variables.data-")]
    expected = shards[0].rpartition("-of-")[2] if shards else ""
    if not expected.isdecimal() or len(shards) != int(expected):
        return Flaw(FlawKind.SHARDS_MISSING, (len(shards), expected.lstrip("0") or "its"))
    return None
