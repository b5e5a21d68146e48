"""What is in the cache, and which of it a few words mean."""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import TypeAlias

from tfhub_cache import settings
from tfhub_cache.errors import CacheError, ResolveError, reason
from tfhub_cache.fetching.lookup import Cache, open_cache
from tfhub_cache.notation import abridged, did_you_mean
from tfhub_cache.store.entry import Entry
from tfhub_cache.urls import argument, as_meant, key_of, redact

__all__ = ["Entry", "entries", "exists", "find", "free_space"]


def entries(models: Iterable[str] | None = None) -> list[Entry]:
    """Everything in the cache: models, running downloads, and what crashed processes left.

    Nothing is locked, changed or downloaded. Sizes come from the manifests; only models of
    tensorflow_hub and damaged ones are measured file by file.

    Args:
        models: which of it, as `find` takes them; each may mean several. None: all.

    Returns:
        The entries, in the order of their handles; those whose handle is not known come last.

    Raises:
        CacheError: if the cache can't be read, or there is nothing that one of `models` means.
            That there is no cache is not an error.

    Example:
        ```python
        import tfhub_cache as hub

        print(sum(entry.size for entry in hub.cache.entries()), "bytes")
        print(len(hub.cache.entries(["https://tfhub.dev/google/*"])), "models of Google")
        ```
    """
    if models is None:
        with reading() as cache:
            found = cache.store.entries(settings.LOCK_TIMEOUT.value())
    else:
        found = meant(models, functools.cache(entries))
    return sorted(found, key=lambda entry: (entry.handle is None, entry.handle or "", entry.key))


def find(handle: str) -> Entry:
    """One entry of the cache.

    Args:
        handle: the handle as it was written when it was resolved, or the name of the entry's
            folder. Or, if they mean no other entry: a part of the handle, such as `spice`, in any
            case, which must not cut a number; or a pattern in which `*` is any text.

    Raises:
        CacheError: if there is nothing of it, or more than one, or the cache can't be read.

    Example:
        ```python
        import tfhub_cache as hub

        print(hub.cache.find("https://tfhub.dev/google/nnlm-en-dim128/2").used)
        ```
    """
    return _meant(handle, entries, "Write more of the handle.")[0]


def exists() -> bool:
    """Whether there is a cache: its folder is there. In a bucket, which has no folders, always.

    Raises:
        CacheError: if that can't be found out.
    """
    with reading() as cache:
        return cache.store.exists()


def free_space() -> int | None:
    """How many bytes are free where the cache is; None in a bucket, which has no limit.

    Raises:
        CacheError: if that can't be found out.
    """
    with reading() as cache:
        return cache.store.free_space()


def meant(models: Iterable[str], listed: Callable[[], list[Entry]]) -> list[Entry]:
    """The entries, each once, that a user means who names models as `find` takes them.

    Args:
        models: what the user names; each may mean several.
        listed: returns all entries; it is called where a name is not that of an entry.

    Raises:
        CacheError: if there is nothing that one of `models` means.
    """
    found = [entry for model in models for entry in _meant(model, listed)]
    return [*{entry.key: entry for entry in found}.values()]


Chosen: TypeAlias = tuple[str, Entry | CacheError]
"""What a user named, and an entry that it means, or why there is none."""


def chosen(models: Iterable[str | Entry], *, one_each: bool = False) -> Iterator[Chosen]:
    """The entries that a user means who names models as `find` takes them.

    Args:
        models: what the user names, or entries. What is named twice is handed out once.
        one_each: whether a part of a handle must mean one model. A pattern may mean several.
    """
    listed = functools.cache(entries)
    seen = set()
    for model in models:
        if isinstance(model, Entry):
            name, found = model.handle or model.key, [model]
        else:
            name, pattern = model, shlex.quote(f"*{model.strip()}*")
            advice = f"Write more of the handle, or {pattern} for all of them."
            try:
                found = _meant(model, listed, advice if one_each and "*" not in model else "")
            except CacheError as error:
                yield model, error
                continue
        for entry in found:
            if entry.key not in seen:
                seen.add(entry.key)
                yield name, entry


def with_patterns(handles: Iterable[str]) -> list[str]:
    """Handles, with those of cached models in place of patterns that mean some."""
    listed = functools.cache(entries)
    found = []
    for handle in handles:
        models = _matching(handle, listed()) if "*" in handle else []
        found += [entry.handle for entry in models if entry.handle and entry.is_there] or [handle]
    return found


@contextlib.contextmanager
def reading() -> Iterator[Cache]:
    """The cache that the settings name now; an error of its file system says which one it is."""
    cache = open_cache(settings.cache_dir())
    try:
        yield cache
    except ResolveError:
        raise
    except OSError as error:
        message = f"Could not read the cache {cache.root}"
        raise CacheError(message, cause=reason(error)) from error


def _meant(model: str, listed: Callable[[], list[Entry]], if_several: str = "") -> list[Entry]:
    """The entries that a user means, at least one; and only one, if there is advice on several.

    Raises:
        CacheError: if there is none, or there are too many.
    """
    is_key = re.fullmatch("[0-9a-f]{40}", model)
    with reading() as cache:
        if is_key or "://" in model:
            key = model if is_key else key_of(as_meant(model))
            entry = cache.store.entry(key, settings.LOCK_TIMEOUT.value())
            if entry.is_there or entry.leftovers or entry.holder:
                return [entry]
        is_handle = "://" in model and "*" not in model
        found = [] if is_key or is_handle else _matching(model, listed())
        if if_several and len(found) > 1:
            names = abridged([entry.name for entry in found])
            what = f"{redact(model)} means {len(found)} models. {if_several}"
            raise CacheError("\n  ".join([what, *names]))
        if found:
            return found
        advice = "`tfhub-cache ls` shows what is."
        if is_handle and (word := argument(as_meant(model))):
            advice = f"{advice[:-1]}, and `tfhub-cache resolve {word}` fetches it."
        elif not is_key and "*" not in model:
            advice = did_you_mean(model, _parts(listed())) or advice
        there = "" if cache.store.exists() else ", which does not exist"
        shown = redact(model)
        raise CacheError(f"{shown} is not in the cache {cache.root}{there}. {advice}", handle=shown)


def _matching(model: str, among: Iterable[Entry]) -> list[Entry]:
    """Those whose whole handle is as a pattern says, or has a word in it."""
    word = model.strip()
    # A word cuts no number: `spice/1` is not `spice/12`.
    begin, end = (r"\A", r"\Z") if "*" in word else [r"(?:(?<!\d)|(?!\d))"] * 2
    text = re.escape(word).replace(r"\*", ".*")
    pattern = re.compile(f"{begin}{text}{end}", re.IGNORECASE | re.DOTALL)
    return [entry for entry in among if word and pattern.search(entry.handle or entry.key)]


def _parts(entries: Iterable[Entry]) -> set[str]:
    """What may stand in a command for some models: parts of their handles, and two together."""
    known: set[str] = set()
    for entry in entries:
        parts = redact(entry.handle or "").split("/")
        known.update(parts, map("/".join, pairwise(parts)))
    return {part for part in known if part and argument(part)}
