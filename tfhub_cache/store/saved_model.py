"""Whether a folder looks like a SavedModel, as far as the names of its files tell."""

from __future__ import annotations

from collections.abc import Collection

MODEL_FILES = frozenset({"saved_model.pb", "saved_model.pbtxt", "tfhub_module.pb"})
"""The files of which a model has at least one."""


def flaw_of(names: Collection[str], variables: Collection[str]) -> str | None:
    """What a folder lacks to be a SavedModel.

    Args:
        names: what is in the folder itself.
        variables: what is in its folder `variables`; nothing if there is none.

    Returns:
        Words for people, or None if nothing is missing.
    """
    if MODEL_FILES.isdisjoint(names):
        return "it contains neither 'saved_model.pb' nor 'saved_model.pbtxt'"
    if not variables:
        return None
    if "variables.index" not in variables:
        return "variables/variables.index is missing"
    shards = [name for name in variables if name.startswith("variables.data-")]
    expected = shards[0].rpartition("-of-")[2] if shards else ""
    if not expected.isdecimal() or len(shards) != int(expected):
        return f"variables holds {len(shards)} of {expected.lstrip('0') or 'its'} data files"
    return None
