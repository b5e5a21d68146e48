"""Google Cloud Storage through gcsfs: one file system per process, errors that help.

gcsfs finds credentials as Google's libraries do (application default credentials) and goes
anonymous for public buckets when there are none; `STORAGE_EMULATOR_HOST` points it elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfhub_cache.errors import DownloadError

if TYPE_CHECKING:
    import fsspec


@functools.lru_cache(maxsize=1)
def file_system() -> fsspec.AbstractFileSystem:
    """The file system behind gs:// paths."""
    # gcsfs takes most of a second to import. The class in `core` is the plain one: the one at the
    # top of gcsfs asks for each bucket's type first, and can wait a minute for the answer.
    from gcsfs.core import GCSFileSystem

    return GCSFileSystem()


@contextlib.contextmanager
def errors_told(path: str) -> Iterator[None]:
    """Turns what gcsfs raises about `path` into a `DownloadError` that says what to do."""
    try:
        yield
    except DownloadError:
        raise
    except FileNotFoundError:
        raise DownloadError(f"{path} does not exist.", handle=path, url=path, status=404) from None
    except Exception as error:  # gcsfs has errors of many kinds: HTTP, aiohttp, google.auth
        bucket = path.removeprefix("gs://").partition("/")[0]
        raise DownloadError(
            f"Could not read {path}: {error}. Check that the bucket {bucket!r} exists and that "
            "the application default credentials may read it "
            "(gcloud auth application-default login).",
            handle=path,
            url=path,
        ) from error
