"""HTTP: safe redirects, one policy for trying again, and errors that say what to do.

requests and urllib3 do the work: connection reuse, proxies, netrc, CA bundles. Added is what the
hosting protocol needs beyond them: URLs of redirects are sent byte for byte, since a signed URL is
only valid as given (`session`); https never falls back to http; and no secret (query strings,
passwords) gets into a message (`http_errors`).
"""

from __future__ import annotations

import email.utils
import functools
import itertools
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple
from urllib.parse import urljoin

import requests
import urllib3
from absl import logging

from tfhub_cache.clients.access import Access
from tfhub_cache.clients.http_errors import diagnosis, failure, is_passing, reason, refusal
from tfhub_cache.clients.session import CONNECT_TIMEOUT, OURS, shared_session
from tfhub_cache.errors import DownloadError
from tfhub_cache.retrying import Pause, pause_after
from tfhub_cache.urls import Origin, encode, origin, redact, request_target

MAX_REDIRECTS = 20
MAX_RETRY_AFTER = 60.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})

_BUSY = frozenset({429, *range(500, 600)} - {501, 505, 511})
"""Statuses of trouble that passes."""
_SILENT_ATTEMPTS = 3
"""For servers that did not answer, which takes a timeout each time."""
_TIMEOUTS = 5
"""For how many timeouts an answer is watched before it is judged as too slow."""
_LONGEST_FIELD = 1000
"""Characters of a header field. Longer ones are of no use to anything here."""
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


class Address(NamedTuple):
    """Where an answer came from after all redirects: enough to ask there again.

    It holds secrets (a signed URL, credentials) and is kept in memory only.
    """

    url: str
    authorization: str | None = None


class Answer:
    """An answer: its header fields, read with bounds, and its body, a `ByteStream`.

    Attributes:
        status: the status code.
        address: where it came from.
        way: the URLs that were asked for it, the last of which is that of `address`.
        shown: where it came from, as it may be shown.
        headers: the header fields as the server sent them.
        response: what requests has received.
    """

    def __init__(self, handle: str, url: str, response: requests.Response) -> None:
        self._handle = handle
        self.response = response
        self.status = response.status_code
        self.address = Address(url, response.request.headers.get("Authorization"))
        self.way = [url]
        self.shown = redact(url)
        self.headers: Mapping[str, str] = response.headers

    def field(self, name: str) -> str:
        """A field's value; empty if it is absent, too long, or not printable."""
        value = self.headers.get(name, "").strip()
        return value if len(value) <= _LONGEST_FIELD and value.isprintable() else ""

    @property
    def media_type(self) -> str:
        """Its Content-Type without parameters, in lower case."""
        return self.field("Content-Type").partition(";")[0].strip().lower()

    def number(self, name: str) -> int | None:
        """A field's value as a number from 0 on; None if it is not a number."""
        value = self.field(name)
        return int(value) if _NUMBER.fullmatch(value) else None

    def date(self, name: str) -> float | None:
        """A field's date in seconds since 1970; None if it is not a date."""
        try:
            parsed = email.utils.parsedate_to_datetime(self.field(name))
            return parsed.timestamp() if parsed.tzinfo is not None else None
        except (ValueError, TypeError, IndexError, OverflowError):
            return None

    def retry_after(self) -> float | None:
        """For how many seconds the server asks to wait, if it does."""
        seconds, until = self.number("Retry-After"), self.date("Retry-After")
        return max(0.0, until - time.time()) if seconds is None and until is not None else seconds

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes of the body as they were sent, as soon as there are any.

        Returns:
            The bytes; none at the body's end only.

        Raises:
            DownloadError: if the rest does not come.
        """
        try:
            # Not decoded: `Content-Encoding: gzip` on a .tar.gz labels the archive itself.
            data: bytes = self.response.raw.read1(size, decode_content=False)
            return data
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            broken = self.failure(f"the download broke off: {reason(error)}")
        raise broken

    def content(self, most: int) -> bytes:
        """The whole body, or `most` bytes of it and a little more.

        Raises:
            DownloadError: see `read`.
        """
        body = b""
        while len(body) < most and (more := self.read(most)):
            body += more
        return body

    def close(self) -> None:
        """Ends the connection, so that a `read` which waits in another thread fails soon after.

        The response itself is closed by the thread that reads: urllib3 is not made for two at once.
        """
        with suppress(OSError, RuntimeError, ValueError):
            self.response.raw.shutdown()

    def failure(self, what: str) -> DownloadError:
        """What is raised when the answer is of no use."""
        return failure(self._handle, self.address.url, what, self.status)

    def refusal(self) -> DownloadError:
        """What is raised when the status says that the answer is not what was asked for."""
        return refusal(self._handle, self.address.url, self.status, self.response.reason or "")


@contextmanager
def get(
    handle: str,
    address: str | Address,
    *,
    access: Access,
    pause: Pause,
    redirects: frozenset[int] = REDIRECTS,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Answer]:
    """Requests an address, follows redirects, and yields the answer, its body still unread.

    Args:
        handle: the handle that is being resolved, for messages.
        address: where to ask first.
        access: how it is asked.
        pause: is called before a request is repeated.
        redirects: the statuses that are followed when they come with a Location.
        headers: further header fields, for every address on the way.

    Raises:
        DownloadError: if there is no answer at all, or the redirects lead nowhere.
    """
    if not access.verify:
        _warn_of_no_verification()
    url, authorization = address if isinstance(address, Address) else (address, None)
    url, asked = _checked(handle, url, "")
    way: list[str] = []
    for _ in range(MAX_REDIRECTS):
        fields = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
        fields[OURS] = f"{access.min_rate} {_TIMEOUTS * access.timeout} {request_target(url)}"
        answer = _send(handle, url, fields, access, pause)
        answer.way[:0] = way
        location = answer.headers.get("Location")
        if answer.status not in redirects or location is None:
            try:
                yield answer
            finally:
                answer.response.close()
            return
        answer.response.close()
        target, next_asked = _checked(
            handle, _join(url, location), "it was redirected to an address that "
        )
        if asked.scheme == "https" and next_asked.scheme != "https":
            raise failure(
                handle,
                target,
                "it was redirected from https to an address that is not, which is refused: "
                "anybody on the way could replace the model",
                answer.status,
            )
        # requests sets Authorization from the URL and netrc, for each host on its own. What came
        # from the URL of this host has to be carried along by hand, and only to the same one.
        authorization = answer.address.authorization if asked == next_asked else None
        way.append(url)
        url, asked = target, next_asked
    raise failure(handle, url, f"it was redirected more than {MAX_REDIRECTS} times")


def _send(
    handle: str, url: str, headers: Mapping[str, str], access: Access, pause: Pause
) -> Answer:
    """Sends a request, and repeats it after trouble that may pass."""
    silences = 0
    for attempt in itertools.count(1):
        try:
            response = _send_once(url, headers, access)
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            # requests' errors are OSErrors; so is a CA bundle that is not there.
            broken = failure(handle, url, diagnosis(error, access.verify))
            silences += 1
            seconds = pause_after(silences, _SILENT_ATTEMPTS) if is_passing(error) else None
            if seconds is None or pause is None:
                break
        else:
            answer = Answer(handle, url, response)
            seconds = pause_after(attempt) if answer.status in _BUSY else None
            if seconds is None or pause is None:
                return answer
            response.close()
            seconds = min(answer.retry_after() or seconds, MAX_RETRY_AFTER)
        pause(seconds)
    # Outside of the handler, since what is raised in there refers to the original error, which
    # holds the whole URL, signature included.
    raise broken


def _send_once(url: str, headers: Mapping[str, str], access: Access) -> requests.Response:
    shared = shared_session(os.getpid())
    without_query = url.partition("?")[0]  # so no log line and no error of theirs can show it
    # Where the user's ~/.netrc has a login, requests would send it in the place of a known one.
    auth = (lambda prepared: prepared) if "Authorization" in headers else None
    request = shared.prepare_request(
        requests.Request("GET", without_query, headers=dict(headers), auth=auth)
    )
    environment = shared.merge_environment_settings(url, {}, True, access.verify, None)
    # Not session.send, which reads the whole body of a redirect, however long it is.
    return shared.get_adapter(url).send(
        request,
        stream=True,
        timeout=(min(CONNECT_TIMEOUT, access.timeout), access.timeout),
        verify=environment["verify"] or False,
        cert=environment["cert"],
        proxies=environment["proxies"],
    )


def _checked(handle: str, url: str, what: str) -> tuple[str, Origin]:
    """The URL as it can be sent, and where it leads to.

    Raises:
        DownloadError: if it can't be sent; it says why.
    """
    try:
        origin(handle)
        where = origin(url)
    except ValueError as error:
        cause = f"{what}can't be asked: {error}" if what else f"{error}. Check the handle"
        broken = failure(handle, url, cause)
    else:
        return encode(url), where
    raise broken


def _join(url: str, location: str) -> str:
    try:
        # Spaces and non-ASCII bytes can't be sent; all else stays as it is.
        return urljoin(url, encode(location.encode("latin-1", "replace")))
    except ValueError:
        return ""


@functools.cache
def _warn_of_no_verification() -> None:
    logging.warning("Disabled certificate validation for resolving handles.")
