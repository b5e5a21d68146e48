"""gcsfs's file system, with requests that end in time, and errors that name the cause.

A module of its own, as gcsfs takes almost a second to import.
"""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import aiohttp
from gcsfs.core import GCSFileSystem
from gcsfs.retry import HttpError, retry_request

from tfhub_cache.clients.gcs_errors import StorageError
from tfhub_cache.clients.session import CONNECT_TIMEOUT
from tfhub_cache.errors import DownloadError

_ONCE = GCSFileSystem._request.__wrapped__
"""gcsfs's request without its retries, which take a silent server and a full one for the same."""
_ATTEMPTS = 6
_TIMEOUTS = 5
"""So many timeouts a request may take in all, which ends one of whose body nothing is taken."""
_LONGEST = 300
_REMEMBERED = 5.0
"""For how many seconds no access token is asked for after a failure."""
_BUCKET = re.compile("/b/([^/?]+)/o(/?)")
_QUERY = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*")


class FileSystem(GCSFileSystem):  # type: ignore[misc]  # gcsfs has no types
    """The file system behind gs:// paths."""

    cachable = False  # `clients.gcs` keeps one

    def __init__(self, token: str | None, timeout: float) -> None:
        """Finds credentials, for which it may ask whether this is a machine of Google's.

        Args:
            token: which credentials, as gcsfs has it.
            timeout: seconds without a byte after which a request is given up.
        """
        connect = min(CONNECT_TIMEOUT, timeout)
        timeouts = aiohttp.ClientTimeout(
            _TIMEOUTS * timeout, sock_connect=connect, sock_read=timeout
        )
        super().__init__(token=token, use_listings_cache=False, requests_timeout=timeouts)
        found = self.credentials.credentials
        if found is not None:
            found.refresh = _in_time(found.refresh, timeout)

    async def _request(self, method: str, path: str, *args: str, **options: Any) -> Any:
        """Makes a request, up to six times within half a minute; up to twice if it is silence.

        Raises:
            FileNotFoundError: if there is no such object.
            StorageError: if it is known why not, and what to do.
            Exception: whatever else gcsfs raises.
        """
        is_repeated = False
        while True:
            try:
                return await self._try_again(method, path, *args, **options)
            except asyncio.TimeoutError:
                if is_repeated:
                    text = "it did not answer in time (TFHUB_HTTP_TIMEOUT), twice"
                    raise StorageError(text) from None
                is_repeated = True  # perhaps only the connection had been lost
            except Exception as error:
                # Without what gcsfs raises, which may show an upload's secret address.
                raise _refusal(error, path, args) from None

    @retry_request(retries=_ATTEMPTS)  # type: ignore[untyped-decorator]
    async def _try_again(self, method: str, path: str, *args: str, **options: Any) -> Any:
        try:
            return await _ONCE(self, method, path, *args, **options)
        except asyncio.TimeoutError:
            raise asyncio.TimeoutError from None  # aiohttp's own would be tried again
        except OSError as error:
            if "rate limit" in str(error).lower():  # gcsfs takes each 403 for a missing right
                text = _shown(error).partition("\n")[2]
                raise HttpError({"code": 429, "message": text}) from None
            raise


def _in_time(refresh: Callable[..., Any], timeout: float) -> Callable[..., Any]:
    """A renewal of an access token that is given up in time, and says why it failed."""
    failed_at, why = float("-inf"), ""

    def renew(request: Callable[..., Any]) -> Any:
        nonlocal failed_at, why
        # Requests at the same time come here one after the other.
        if time.monotonic() - failed_at > _REMEMBERED:
            try:
                return refresh(functools.partial(request, timeout=timeout))
            except Exception as error:  # google-auth has more kinds than its own, for odd answers
                failed_at, why = time.monotonic(), _shown(error.args[0] if error.args else error)
        raise StorageError(
            f"no access token was given for the credentials found: {why}",
            "Log in again (gcloud auth application-default login), or renew the key file that "
            "GOOGLE_APPLICATION_CREDENTIALS names.",
        )

    return renew


def _refusal(error: Exception, path: str, args: tuple[str, ...]) -> Exception:
    """What an error means, if that is known; or the error."""
    named = _BUCKET.search(path)
    bucket = args[0] if args else unquote(named[1]) if named else ""
    code = int(error.code or 0) if isinstance(error, HttpError) else 0
    code = 404 if isinstance(error, FileNotFoundError) else code
    if "upload_id=" in path and code in (404, 410):
        # Of the kind after which a download is tried once more from the start.
        what = f"The bucket {bucket!r} has forgotten an upload before its end."
        return DownloadError(what, advice="Try again.")
    if "upload_id=" in str(error):
        return StorageError(_shown(error))
    if code == 404 and bucket and not (args[1:] or (named and named[2])):
        advice = "Create it, or correct its name."
        return StorageError(f"there is no bucket {bucket!r}", advice, status=404)
    if "requester pays" in str(error).lower():
        advice = "Set GOOGLE_CLOUD_QUOTA_PROJECT to the project that pays."
        return StorageError(f"who reads the bucket {bucket!r} must pay for it", advice)
    if code == 429:
        advice = "Try again later, or with fewer machines at once."
        return StorageError(f"it gets too many requests for now ({_shown(error)})", advice)
    return error


def _shown(error: object) -> str:
    """The text of an error without queries, which hold secrets; a web page is cut."""
    return _QUERY.sub(r"\1", str(error))[:_LONGEST] or type(error).__name__
