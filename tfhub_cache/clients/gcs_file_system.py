"""gcsfs's file system, with requests that end in time, and errors that name the cause.

A module of its own, as gcsfs takes almost a second to import.
"""

from __future__ import annotations

import asyncio
import functools
import io
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import aiohttp
from gcsfs.core import GCSFileSystem
from gcsfs.retry import HttpError, retry_request
from google.auth import credentials as google

from tfhub_cache.clients.gcs_errors import StorageError
from tfhub_cache.clients.session import CONNECT_TIMEOUT
from tfhub_cache.errors import DownloadError

_ONCE = GCSFileSystem._request.__wrapped__
"""gcsfs's request without its retries, which take a silent server and a full one for the same."""
_ATTEMPTS = 6
_PIECE = 1 << 18
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
        super().__init__(
            token=token,
            use_listings_cache=False,
            requests_timeout=aiohttp.ClientTimeout(
                sock_connect=min(CONNECT_TIMEOUT, timeout), sock_read=timeout
            ),
        )
        self._seconds = timeout
        found = self.credentials.credentials
        if found is not None:
            self.credentials.credentials = _Credentials(found, timeout)

    async def _request(self, method: str, path: str, *args: str, **options: Any) -> Any:
        """Makes a request, up to six times within half a minute; up to twice if it is silence.

        Raises:
            FileNotFoundError: if there is no such object.
            StorageError: if it is known why not, and what to do.
            Exception: whatever else gcsfs raises.
        """
        try:
            return await self._try_again(method, path, *args, **options)
        except Exception as error:
            refusal = _refusal(error, path, args)
            if refusal is None:
                raise
            raise refusal from None  # what gcsfs raises may show an upload's secret address

    @retry_request(retries=_ATTEMPTS)  # type: ignore[untyped-decorator]
    async def _try_again(self, method: str, path: str, *args: str, **options: Any) -> Any:
        if data := options.get("data"):
            data = data.getbuffer() if isinstance(data, io.BytesIO) else data
            options["data"] = _Body(data, self._seconds)
        is_silent = False
        while True:
            try:
                return await _ONCE(self, method, path, *args, **options)
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                if not isinstance(error, asyncio.TimeoutError) and not isinstance(
                    error.__cause__, asyncio.TimeoutError
                ):
                    raise
                if is_silent:
                    text = "it did not answer in time (TFHUB_HTTP_TIMEOUT), twice"
                    raise StorageError(text) from None
                is_silent = True  # perhaps only the connection had been lost
            except OSError as error:
                if "rate limit" in str(error).lower():  # gcsfs takes each 403 for a missing right
                    text = _shown(error).partition("\n")[2]
                    raise HttpError({"code": 429, "message": text}) from None
                raise


class _Body(aiohttp.Payload):
    """The body of a request, given up if nothing is taken of it: aiohttp watches answers only."""

    def __init__(self, data: bytes | memoryview, timeout: float) -> None:
        super().__init__(data)
        self._size = len(data)
        self._timeout = timeout

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: Any) -> None:
        for start in range(0, len(self._value), _PIECE):
            piece = self._value[start : start + _PIECE]
            await asyncio.wait_for(writer.write(piece), self._timeout)


class _Credentials(google.Credentials):  # type: ignore[misc]
    """Credentials whose renewal is given up in time, and says why it failed."""

    def __init__(self, found: google.Credentials, timeout: float) -> None:
        super().__init__()
        self._found = found
        self._timeout = timeout
        self._failure: tuple[float, str] | None = None
        self.token, self.expiry = found.token, found.expiry

    def refresh(self, request: Callable[..., Any]) -> None:
        if self._failure is None or time.monotonic() - self._failure[0] > _REMEMBERED:
            self._failure = None
            try:
                self._found.refresh(functools.partial(request, timeout=self._timeout))
            except Exception as error:  # google-auth has more kinds than its own, for odd answers
                text = _shown(error.args[0] if error.args else error)
                self._failure = time.monotonic(), text
        if self._failure is not None:  # requests at the same time come here one after the other
            raise StorageError(
                f"no access token was given for the credentials found: {self._failure[1]}",
                "Log in again (gcloud auth application-default login), or renew the key file that "
                "GOOGLE_APPLICATION_CREDENTIALS names.",
            )
        self.token, self.expiry = self._found.token, self._found.expiry

    def apply(self, headers: dict[str, str], token: str | None = None) -> None:
        self._found.apply(headers, token)  # it knows the project that is billed, too


def _refusal(error: Exception, path: str, args: tuple[str, ...]) -> OSError | None:
    """What an error means, if that is known; None if gcsfs's own will do."""
    named = _BUCKET.search(path)
    bucket = args[0] if args else unquote(named[1]) if named else ""
    code = int(error.code or 0) if isinstance(error, HttpError) else 0
    code = 404 if isinstance(error, FileNotFoundError) else code
    if "upload_id=" in path and code in (404, 410):
        # Of the kind after which a download is tried once more from the start.
        return DownloadError(
            f"The bucket {bucket!r} has forgotten an upload before its end.", advice="Try again."
        )
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
    return None


def _shown(error: object) -> str:
    """The text of an error without queries, which hold secrets; a web page is cut."""
    return _QUERY.sub(r"\1", str(error))[:_LONGEST] or type(error).__name__
