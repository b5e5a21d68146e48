"""A static file server for one folder that counts what it sends, and acts at a given byte.

It supports resumed downloads: `Range`, `If-Range`, `ETag`, `Last-Modified`. It sends bytes by
sendfile(2), optionally with a limit of bytes a second for each connection.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import cast
from urllib.parse import unquote, urlsplit

_STEP = 256 << 10
_SEND_BUFFER = 128 << 10
"""Small, so that what counts as sent has left for the client, or nearly."""


@dataclass
class Answer:
    """A body that was sent, as far as it got.

    Attributes:
        began: when its first byte was sent, as `time.monotonic` has it.
        start: where in the file it begins.
        sent: how many bytes were sent.
    """

    began: float
    start: int
    sent: int


class StaticServer:
    """Serves the files of a folder on a free port of 127.0.0.1. A context manager.

    Args:
        folder: the files; what is in its folders is not served.
        rate: the most bytes a second on each connection, or None.
    """

    def __init__(self, folder: Path, rate: int | None = None) -> None:
        self._server = _Server(folder, rate)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def answers(self) -> list[Answer]:
        return self._server.answers

    @property
    def sent(self) -> int:
        """How many bytes of bodies were sent in all."""
        return sum(answer.sent for answer in self.answers)

    def at(self, sent: int, act: Callable[[], None]) -> None:
        """Acts once, in the middle of sending, when so many bytes were sent in all."""
        self._server.event = (sent, act)

    def cut(self) -> None:
        """Cuts all connections."""
        for connection in list(self._server.connections):
            with contextlib.suppress(OSError):  # the client may be gone
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> StaticServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self.cut()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, rate: int | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.rate = rate
        self.answers: list[Answer] = []
        self.connections: set[socket.socket] = set()
        self.event: tuple[int, Callable[[], None]] | None = None
        self._lock = threading.Lock()

    def count(self, answer: Answer, sent: int) -> None:
        act = None
        with self._lock:
            answer.sent += sent
            if self.event and sum(other.sent for other in self.answers) >= self.event[0]:
                act, self.event = self.event[1], None
        if act:
            act()

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: clients come and go, that is what is measured."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._host = cast(_Server, self.server)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._host.connections.add(self.connection)

    def finish(self) -> None:
        self._host.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self._host.folder / Path(unquote(urlsplit(self.path).path)).name
        if not path.is_file():
            self.send_response(HTTPStatus.NOT_FOUND)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            tag = f'"{status.st_mtime_ns:x}-{size:x}"'
            date = formatdate(status.st_mtime, usegmt=True)
            part = None
            if self.headers.get("If-Range", tag) in (tag, date):
                part = _wanted(self.headers.get("Range", ""), size)
            start, end = part or (0, size)
            code = HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK
            if part and start >= size:
                code, start, end = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0
            self.send_response(code)
            self.send_header("Content-Type", "application/gzip")
            self.send_header("Content-Length", str(end - start))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", tag)
            self.send_header("Last-Modified", date)
            if part:
                shown = f"{start}-{end - 1}" if end else "*"
                self.send_header("Content-Range", f"bytes {shown}/{size}")
            self.end_headers()
            if with_body and end > start:
                with contextlib.suppress(OSError):  # the client may be gone
                    self._send(file.fileno(), start, end)

    def _send(self, file: int, start: int, end: int) -> None:
        answer = Answer(time.monotonic(), start, 0)
        self._host.answers.append(answer)
        rate = self._host.rate
        step = min(_STEP, rate // 50) if rate else _STEP
        while (position := start + answer.sent) < end:
            size = min(step, end - position)
            sent = os.sendfile(self.connection.fileno(), file, position, size)
            self._host.count(answer, sent)
            if rate:
                time.sleep(max(0.0, answer.began + answer.sent / rate - time.monotonic()))


def _wanted(header: str, size: int) -> tuple[int, int] | None:
    """The half-open range that is asked for, or None for all; several at once are answered by all.

    See https://www.rfc-editor.org/rfc/rfc9110#name-range
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
