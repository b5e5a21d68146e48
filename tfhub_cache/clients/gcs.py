"""Google Cloud Storage through gcsfs: one file system per process, errors that help.

gcsfs finds credentials as Google's libraries do (application default credentials) and goes
anonymous for public buckets when there are none; `STORAGE_EMULATOR_HOST` points it elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from tfhub_cache.clients.gcs_errors import StorageError
from tfhub_cache.errors import CacheError, DownloadError, ResolveError
from tfhub_cache.urls import redact

if TYPE_CHECKING:
    import fsspec

Access: TypeAlias = tuple[str | None, float, str | None]
"""How Google Cloud Storage is reached: what `file_system` takes."""
_KNOWN_TO_WORK = (
    "A cache can be a folder, gs://bucket/folder, s3://bucket/folder (pip install s3fs), "
    "az://container/folder (pip install adlfs), sftp://host/folder (pip install sshfs) or "
    "memory://folder. Check TFHUB_CACHE_DIR."
)


def file_system_of(url: str, access: Access) -> fsspec.AbstractFileSystem:
    """The file system behind a URL: this module's for gs://, otherwise fsspec's for its scheme.

    Args:
        url: where it is.
        access: what `file_system` takes.

    Raises:
        CacheError: if there is none for its scheme, or its package is not installed.
        StorageError: if the key file can't be used.
    """
    if url.startswith("gs://"):
        return file_system(*access)
    import fsspec.core

    options: dict[str, Any] = {"use_listings_cache": False}
    if url.startswith(("sftp://", "ssh://")):
        options = {"known_hosts": ()}  # those of ~/.ssh; by default sshfs trusts every host
    try:
        if url.startswith(("http://", "https://")):
            raise ValueError("it can't be written")
        found, _ = fsspec.core.url_to_fs(url, **options)
    except (ValueError, ImportError, TypeError) as error:
        what = f"There is no file system for the cache {redact(url)}"
        raise CacheError(what, cause=reason(error), advice=_KNOWN_TO_WORK) from error
    return found


@functools.lru_cache(maxsize=4)
def file_system(
    emulator: str | None, timeout: float, key_file: str | None = None
) -> fsspec.AbstractFileSystem:
    """The file system behind gs:// paths, one for each process.

    Args:
        emulator: the URL of an emulator, which needs no credentials; None: Google's service.
            gcsfs takes the URL itself from STORAGE_EMULATOR_HOST.
        timeout: seconds without a byte after which a request is given up.
        key_file: what GOOGLE_APPLICATION_CREDENTIALS names, from which google-auth takes it itself.

    Raises:
        StorageError: if the key file can't be used.
    """
    from tfhub_cache.clients.gcs_file_system import FileSystem

    logging.getLogger("gcsfs").addFilter(_is_no_repetition)
    # To look for credentials can take seconds. Without a method, gcsfs would take others, or none,
    # in the place of a key file that is no use.
    method = "anon" if emulator else "google_default" if key_file else None
    try:
        return FileSystem(method, timeout)
    except Exception as error:  # of many kinds, as files may hold anything
        if emulator or key_file is None:
            raise
        raise StorageError(
            f"the key file {key_file} can't be used: {reason(error)}",
            "Correct GOOGLE_APPLICATION_CREDENTIALS, or unset it to use other credentials or none.",
        ) from None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=file_system.cache_clear)  # it can't use its parent's


@contextlib.contextmanager
def errors_explained(
    path: str, kind: type[CacheError | DownloadError] = DownloadError
) -> Iterator[None]:
    """Turns what a file system raises about `path` into an error that says what to do.

    Args:
        path: what is read, or the cache that is used.
        kind: `CacheError` for a cache.
    """
    if f"{path}/".startswith("gs:///"):
        cause = "after gs:// the name of a bucket is missing"
        advice = "If it is put together from variables, one of them is empty."
        raise kind(f"{path} does not exist", cause=cause, advice=advice, handle=path)
    try:
        yield
    except (ResolveError, FileExistsError):
        raise
    except Exception as error:  # of many kinds: HTTP, aiohttp, google.auth, botocore, azure
        shown, status = redact(path), error.status if isinstance(error, StorageError) else None
        if isinstance(error, FileNotFoundError) and kind is DownloadError:
            raise kind(f"{path} does not exist.", handle=path, url=path, status=404) from None
        what = f"{path} does not exist" if status == 404 else f"Could not read {path}"
        handle: str | None = path
        if kind is CacheError:
            what, handle = f"Could not use the cache {shown}", None
        why = {"cause": reason(error), "advice": _advice(shown, error)}
        raise kind(what, **why, handle=handle, url=handle, status=status) from error


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, FileNotFoundError) and "/" in str(error):
        return f"there is no {error}"
    # google-auth's errors have an answer of a server, or another error, after their text.
    text = str(error.args[0] if error.args and isinstance(error.args[0], str) else error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def _advice(path: str, error: BaseException) -> str:
    """What to do when a bucket can't be used, because of an error."""
    if isinstance(error, StorageError) and error.advice:
        return error.advice
    scheme, _, rest = path.partition("://")
    bucket = rest.partition("/")[0]
    advice = f"Check that {bucket!r} exists and that the credentials found may use it"
    if scheme == "gs":
        advice += " (gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS)"
    return f"{advice}, and the network."


def _is_no_repetition(record: logging.LogRecord) -> bool:
    """Drops the traceback that gcsfs logs with an error that it raises as well."""
    return "exception:" not in record.getMessage()
