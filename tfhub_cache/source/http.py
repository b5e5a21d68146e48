"""Archives over HTTP(S)."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping

from tfhub_cache.clients import http
from tfhub_cache.clients.access import Access
from tfhub_cache.errors import DownloadError
from tfhub_cache.retrying import Pause
from tfhub_cache.source.contract import Download, Part, Source
from tfhub_cache.urls import redact

_VALIDATORS = ("ETag", "Last-Modified", "x-goog-generation", "x-goog-hash")
_OK = 200
_PARTIAL_CONTENT = 206
_NOT_SATISFIABLE = 416
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
_CHECKSUM = re.compile(r"(?:^|,)\s*(md5|crc32c)=([\w+/]{6}(?:[\w+/]{16})?==)(?=\s*(?:,|$))", re.A)
_SETTLED = 60.0
"""How many seconds ago it must have been modified: much can happen in the second of a date."""


class HttpArchive(Source):
    """An archive behind a URL, which may redirect to a signed one that expires."""

    def __init__(self, handle: str, url: str, access: Access, is_mirror: bool = False) -> None:
        """An archive.

        Args:
            handle: the handle that it belongs to, for messages.
            url: where to ask; redirects are followed.
            access: how it is asked.
            is_mirror: whether the URL is not of the handle's own host.
        """
        self._start = http.Address(url)
        self._get = functools.partial(http.get, handle, access=access)
        self.shown = redact(url)
        self.is_mirror = is_mirror
        self._known: http.Address | None = None

    @contextlib.contextmanager
    def open(self, part: Part, pause: Pause) -> Iterator[Download]:
        headers = {}
        if part.first or part.stop is not None:
            headers["Range"] = f"bytes={part.first}-{'' if part.stop is None else part.stop - 1}"
            if part.version is not None:
                headers["If-Range"] = part.version
        with contextlib.ExitStack() as stack:
            answer = self._ask(stack, headers, pause)
            if answer.status == _NOT_SATISFIABLE:  # it has become shorter
                answer = self._ask(stack, {}, pause)
            yield self._download(answer, part)

    def _ask(
        self, stack: contextlib.ExitStack, headers: Mapping[str, str], pause: Pause
    ) -> http.Answer:
        """Asks where the archive was found the last time, or else where the handle says."""
        if self._known is not None and self._known.url != self._start.url:
            # It may have expired, and if that host is down, the handle may lead to another now.
            with contextlib.suppress(DownloadError), contextlib.ExitStack() as undo:
                answer = undo.enter_context(self._get(self._known, headers=headers, pause=pause))
                if answer.status in (_OK, _PARTIAL_CONTENT):
                    stack.enter_context(undo.pop_all())
                    return answer
        answer = stack.enter_context(self._get(self._start, headers=headers, pause=pause))
        self._known = answer.address
        return answer

    def _download(self, answer: http.Answer, part: Part) -> Download:
        is_part = answer.status == _PARTIAL_CONTENT
        first, size = 0, answer.number("Content-Length")
        if is_part:
            first, size = _received_part(answer, part.first)
        elif "Transfer-Encoding" in answer.headers:
            size = None
        if answer.status not in (_OK, _PARTIAL_CONTENT):
            raise answer.refusal()
        found = _version(answer)
        if found is None and is_part and part.version and not part.version.startswith('"'):
            found = part.version  # a part need not repeat the date, but must repeat the ETag
        return Download(
            stream=answer,
            url=answer.shown,
            size=size,
            media_type=answer.media_type,
            checksums=_checksums(answer, is_whole=not is_part),
            validators={name: value for name in _VALIDATORS if (value := answer.field(name))},
            first=first,
            version=found,
            divisible=is_part or answer.field("Accept-Ranges").lower() == "bytes",
        )


def _received_part(answer: http.Answer, asked: int) -> tuple[int, int | None]:
    """The first byte of a partial answer, and the size of the whole."""
    stated = answer.field("Content-Range")
    match = _CONTENT_RANGE.fullmatch(stated)
    first, last, size = map(int, match.groups()) if match else (0, 0, 0)
    if asked == first <= last < size:
        return first, size
    raise answer.failure(
        f"the server's answer makes no sense: it sends {stated[:100]!r} and was asked for byte "
        f"{asked}. Try again later"
    )


def _version(answer: http.Answer) -> str | None:
    """What If-Range takes: a strong ETag, or else a date that belongs to one version only.

    See https://www.rfc-editor.org/rfc/rfc9110#name-if-range
    """
    if answer.headers.get("ETag"):
        etag = answer.field("ETag")
        return etag if etag.startswith('"') else None
    modified, now = answer.date("Last-Modified"), answer.date("Date")
    if modified is None or now is None or now - modified < _SETTLED:
        return None
    return answer.field("Last-Modified")


def _checksums(answer: http.Answer, *, is_whole: bool) -> dict[str, str]:
    """The checksums of the archive, from an answer's header fields.

    `x-goog-hash` is of the bytes as Google Cloud Storage keeps them; where it decompressed them
    on the way, that is not what was received. `Content-MD5` is of the body, which may be a part.
    See https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash
    """
    stated = f"md5={answer.field('Content-MD5')}" if is_whole else ""
    stored = answer.headers.get("x-goog-stored-content-encoding", "identity")
    if stored == answer.headers.get("Content-Encoding", "identity"):
        stated = f"{answer.field('x-goog-hash')},{stated}"
    return dict(_CHECKSUM.findall(stated))
