"""What is known of one model: its entry, its manifest, its signatures."""

from __future__ import annotations

from dataclasses import dataclass

from tfhub_cache import signatures
from tfhub_cache.cache.listing import find, reading
from tfhub_cache.signatures import Signature, UnreadableModel
from tfhub_cache.store.entry import Entry

_MODEL = "saved_model.pb"


@dataclass(frozen=True)
class Info:
    """What is known of a model.

    Attributes:
        entry: its entry in the cache, with its manifest.
        signatures: the ways to call it; None if they can't be read.
        signatures_error: why they can't.
    """

    entry: Entry
    signatures: list[Signature] | None = None
    signatures_error: str | None = None


def info(handle: str) -> Info:
    """What is known of a model in the cache.

    Args:
        handle: the handle as it was written when it was resolved, or the name of the entry's
            folder.

    Returns:
        The entry and its signatures, which are read without TensorFlow from `saved_model.pb`.

    Raises:
        CacheError: if it is not in the cache, or the cache can't be read.

    Example:
        ```python
        import tfhub_cache as hub

        info = hub.cache.info("https://tfhub.dev/google/nnlm-en-dim128/2")
        for signature in info.signatures or []:
            print(signature.name, signature.inputs, signature.outputs)
        ```
    """
    entry = find(handle)
    if not entry.is_there:
        return Info(entry, signatures_error="the model is not there")
    try:
        with reading() as cache:
            if _MODEL not in cache.store.files(entry.key):
                return Info(entry, signatures_error=f"there is no {_MODEL}")
            with cache.store.open_file(entry.key, _MODEL) as file:
                return Info(entry, signatures.read_signatures(file))
    except UnreadableModel as error:
        why = f"{_MODEL} {error}"
    except OSError as error:
        why = str(error).rstrip(".")
    return Info(entry, signatures_error=why)
