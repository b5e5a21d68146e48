"""Real servers on loopback: a host of the hosting protocol, a forward proxy, a storage bucket.

They speak HTTP over sockets, well or badly, as the hosts out there do. Each listens on a free
port, answers in threads of its own, and is a context manager that ends what it started:

    with Host() as host:
        handle = host.publish("/demo/model/1", archive_bytes)
        ...
        assert len(host.requests) == 1

How a host answers is a handler: a function that gets the `Request` and writes what it likes.
The functions in the middle of this module make handlers, and can be combined:

    host.publish("/demo/model/1", in_turn(cut(data, after=1000), archive(data)))
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import http.client
import http.server
import ipaddress
import itertools
import selectors
import socket
import socketserver
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from waiting import SOON

if TYPE_CHECKING:
    import trustme

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
Handler: TypeAlias = Callable[["Request"], None]
Self = TypeVar("Self", bound="_Service")

# As in real signed URLs, with escapes that a client might like to write differently.
SIGNED_QUERY = (
    "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=me%40example.com%2f20260101%2Fauto"
    "&X-Goog-Expires=259200&X-Goog-Signature=0a%7Eb%2b~c%2F==&empty="
)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A request as it was received.

    Attributes:
        method: GET, HEAD, CONNECT...
        target: the request line's target, byte for byte (as latin-1).
        headers: they can be asked for in any case; None is no such header.
        client_port: the port that it came from.
        connection: the number of its connection, counted from 0 for each server.
    """

    method: str
    target: str
    headers: Message
    client_port: int
    connection: int

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The target's query, as received."""
        return self.target.partition("?")[2]


class Request(http.server.BaseHTTPRequestHandler):
    """A request that waits for its answer, and the means to write one."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    body = b""

    def setup(self) -> None:
        super().setup()
        self._connection_number = next(self.server.connection_numbers)

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        # Not self.path, in which leading slashes are folded.
        self.target = self.requestline.split()[1]
        self.server.record(
            Recorded(
                method=self.command,
                target=self.target,
                headers=self.headers,
                client_port=self.client_address[1],
                connection=self._connection_number,
            )
        )
        return True

    def do_GET(self) -> None:
        self.server.handler(self)

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.handler(self)

    do_HEAD = do_GET  # noqa: N815
    do_CONNECT = do_GET  # noqa: N815

    @property
    def closing(self) -> threading.Event:
        """Set when the server ends: a handler that waits has to watch it."""
        return self.server.closing

    def start(self, status: int, headers: Headers = ()) -> None:
        """Sends the status line and the headers."""
        self.send_response(status)
        for name, value in headers.items() if isinstance(headers, Mapping) else headers:
            self.send_header(name, value)
        self.end_headers()

    def send(self, body: bytes | memoryview, rate: float | None = None) -> None:
        """Sends a part of the body, at no more than `rate` bytes per second."""
        if self.command == "HEAD":
            return
        view = memoryview(body)
        step = 1 << 18 if rate is None else max(1, min(1 << 16, int(rate / 50)))
        started = time.monotonic()
        for offset in range(0, len(view), step):
            if rate is not None:
                self.wait(started + offset / rate - time.monotonic())
            self.wfile.write(view[offset : offset + step])

    def answer(self, status: int, body: bytes | str = b"", headers: Headers = ()) -> None:
        """Sends a whole answer of known length."""
        content = body.encode() if isinstance(body, str) else body
        fields = list(headers.items() if isinstance(headers, Mapping) else headers)
        self.start(status, [*fields, ("Content-Length", str(len(content)))])
        self.send(content)

    def wait(self, seconds: float) -> None:
        """Lets time pass, but not longer than the server lives."""
        if seconds > 0 and self.closing.wait(seconds):
            self.cut()

    def cut(self, *, reset: bool = False) -> None:
        """Ends the connection here and now; nothing after it in the handler is run.

        Args:
            reset: with a reset, as crashing machines and impatient firewalls do it.
        """
        self.close_connection = True
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        raise ConnectionAbortedError("cut by the test's server")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keeps quiet: tests ask for `requests`."""


class _Server(socketserver.TCPServer):
    """Accepts connections, serves each in a thread, and knows how to end them all."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None) -> None:
        self.handler = handler
        self.tls = tls
        self.closing = threading.Event()
        self.connection_numbers = itertools.count()
        self.requests: list[Recorded] = []
        self.failures: list[Exception] = []
        self.changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        super().__init__(("127.0.0.1", 0), Request)

    def record(self, request: Recorded) -> None:
        with self.changed:
            self.requests.append(request)
            self.changed.notify_all()

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self._serve, args=(request, client_address), daemon=True)
        self._threads = [other for other in self._threads if other.is_alive()]
        self._threads.append(thread)
        thread.start()

    def _serve(self, connection: socket.socket, address: Any) -> None:
        self._watch(connection)
        try:
            if self.tls is not None:
                # Here and not where connections are accepted, as a handshake can take its time.
                plain, connection = (
                    connection,
                    self.tls.wrap_socket(
                        connection, server_side=True, do_handshake_on_connect=False
                    ),
                )
                self._watch(connection)
                self._open.discard(plain)
                connection.do_handshake()
            self.RequestHandlerClass(connection, address, self)
        except (ConnectionError, ssl.SSLError, ValueError) as error:
            # The client went away or didn't trust us, or a handler cut the connection; the
            # ValueError is the base class's surprise at finding it closed.
            if isinstance(error, ValueError) and connection.fileno() != -1:
                self.failures.append(error)
        except Exception as error:
            if not self.closing.is_set():
                self.failures.append(error)
        finally:
            self._open.discard(connection)
            self.shutdown_request(connection)

    def _watch(self, connection: socket.socket) -> None:
        self._open.add(connection)
        if self.closing.is_set():
            _hang_up(connection)

    def end(self) -> None:
        """Ends the accepting, every connection and every thread, and waits for them."""
        self.closing.set()
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            _hang_up(connection)
        for thread in self._threads:
            thread.join(10)
            if thread.is_alive():
                raise RuntimeError("a handler of a test's server does not end")


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        # The plain one: TLS has nothing to say any more, and its own may block.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _context(ca: trustme.CA, names: Iterable[str]) -> ssl.SSLContext:
    """A server's TLS, with a certificate that the CA issues for its names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names).configure_cert(context)
    return context


class _Service:
    """A server in the background, from `__enter__` to `__exit__`."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = _Server(self.handle, tls)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self.port: int = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def handle(self, request: Request) -> None:
        raise NotImplementedError

    def __enter__(self: Self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server; from then on, connecting to it fails. It may be called twice.

        Raises:
            Exception: whatever a handler failed with, so that no test passes by accident.
        """
        if not self._server.closing.is_set():
            self._server.end()
            self._thread.join(10)
            if self._server.failures:
                raise self._server.failures[0]

    @property
    def requests(self) -> list[Recorded]:
        """What was requested so far, oldest first; a copy."""
        with self._server.changed:
            return list(self._server.requests)

    @property
    def connections(self) -> int:
        """How many connections brought a request."""
        return len({request.connection for request in self.requests})

    def wait_for_requests(self, count: int, seconds: float = SOON) -> None:
        """Waits until so many requests have come in; fails if they don't."""
        with self._server.changed:
            if not self._server.changed.wait_for(
                lambda: len(self._server.requests) >= count, seconds
            ):
                raise AssertionError(f"{len(self._server.requests)} of {count} requests came")


class Host(_Service):
    """A host of models.

    Args:
        tls: the CA that issues this host's certificate; None is plain HTTP.
        names: what the certificate is for, and, with a proxy that leads here, which names the
            host can be reached by.
    """

    def __init__(
        self, tls: trustme.CA | None = None, names: Iterable[str] = ("127.0.0.1", "localhost")
    ) -> None:
        super().__init__(None if tls is None else _context(tls, names))
        self._routes: dict[str, Handler] = {}

    def publish(
        self,
        path: str,
        model: bytes | Path | Handler,
        gcs: str | None = None,
        **options: Any,
    ) -> str:
        """Hosts a model under the hosting protocol, at a URL that shows people a page.

        Args:
            path: where, such as "/google/spice/2".
            model: the archive, or the handler that answers for it.
            gcs: the model's uncompressed place, such as "gs://bucket/folder"; None: it has none.
            options: for `archive`.

        Returns:
            The URL: the model's handle.
        """
        compressed = model if callable(model) else archive(model, **options)
        answers = {
            "compressed": compressed,
            "uncompressed": status(404) if gcs is None else gcs_folder(gcs),
        }

        def protocol(request: Request) -> None:
            formats = parse_qs(urlsplit(request.target).query).get("tf-hub-format", [])
            if not formats:
                web_page(f"The model {path}")(request)
            else:
                answers.get(formats[-1], status(400))(request)

        return self.route(path, protocol)

    def route(self, path: str, handler: Handler) -> str:
        """Answers whatever is requested below `path`, with any query, and returns its URL."""
        self._routes[unquote(path)] = handler
        return self.url + path

    def sign(self, path: str, handler: Handler, query: str = SIGNED_QUERY) -> str:
        """Answers at a signed URL, which is returned: another byte in it, and it is a 403."""
        target = f"{path}?{query}"

        def check(request: Request) -> None:
            if request.target == target:
                handler(request)
            else:
                request.answer(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>")

        self.route(path, check)
        return self.url + target

    def handle(self, request: Request) -> None:
        path = request.target.partition("?")[0]
        self._routes.get(unquote(path), status(404))(request)


# Handlers, and functions that make them.


@dataclasses.dataclass(frozen=True)
class archive:  # noqa: N801 - it reads as one of the functions below
    """Answers with an archive, as Google Cloud Storage does by default.

    Attributes:
        data: the archive; a path is read once.
        ranges: whether Range and If-Range are honoured; otherwise the answer is the whole.
        etag: whether an ETag is sent.
        hashes: whether x-goog-hash is sent, in two lines, as GCS does.
        content_type: the Content-Type.
        content_encoding: a Content-Encoding to claim; the bytes stay as they are.
        framing: how the end is marked: "length", "chunked", or by the connection's end ("close").
        rate: bytes per second that each connection gets; None: as fast as it goes.
        after: the number of bytes of an answer after which `interrupt` is called.
        interrupt: something that happens to the answer on its way.
    """

    data: bytes | Path
    ranges: bool = True
    etag: bool = True
    hashes: bool = True
    content_type: str = "application/gzip"
    content_encoding: str | None = None
    framing: Literal["length", "chunked", "close"] = "length"
    rate: float | None = None
    after: int | None = None
    interrupt: Handler | None = None
    _fixed: list[tuple[str, str]] = dataclasses.field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.data, Path):
            object.__setattr__(self, "data", self.data.read_bytes())
        fields = self._fixed
        fields.append(("Content-Type", self.content_type))
        if self.content_encoding is not None:
            fields.append(("Content-Encoding", self.content_encoding))
        if self.etag:
            fields.append(("ETag", self.tag))
        if self.hashes:
            fields.append(("x-goog-hash", f"crc32c={_base64(_crc32c(self.data))}"))
            fields.append(("x-goog-hash", f"md5={_base64(hashlib.md5(self.data).digest())}"))
        if self.ranges:
            fields.append(("Accept-Ranges", "bytes"))

    @functools.cached_property
    def tag(self) -> str:
        """The ETag."""
        return f'"{hashlib.md5(self.data).hexdigest()}"'

    def __call__(self, request: Request) -> None:
        size = len(self.data)
        wanted = self._range(request.headers)
        if wanted is None:
            code, start, stop = 200, 0, size
            fields = list(self._fixed)
        elif wanted[0] >= wanted[1]:
            request.answer(416, headers={"Content-Range": f"bytes */{size}"})
            return
        else:
            code, (start, stop) = 206, wanted
            fields = [*self._fixed, ("Content-Range", f"bytes {start}-{stop - 1}/{size}")]
        if self.framing == "chunked":
            fields.append(("Transfer-Encoding", "chunked"))
        elif self.framing == "close":
            fields.append(("Connection", "close"))
        else:
            fields.append(("Content-Length", str(stop - start)))
        request.start(code, fields)
        self._send(request, memoryview(self.data)[start:stop])

    def _send(self, request: Request, body: memoryview) -> None:
        if self.after is not None and self.interrupt is not None:
            self._send_part(request, body[: self.after])
            self.interrupt(request)
            body = body[self.after :]
        self._send_part(request, body)
        if self.framing == "chunked":
            request.send(b"0\r\n\r\n")

    def _send_part(self, request: Request, body: memoryview) -> None:
        if self.framing != "chunked":
            request.send(body, self.rate)
            return
        for offset in range(0, len(body), 1 << 16):
            chunk = body[offset : offset + (1 << 16)]
            request.send(b"%x\r\n" % len(chunk))
            request.send(chunk, self.rate)
            request.send(b"\r\n")

    def _range(self, headers: Message) -> tuple[int, int] | None:
        """The wanted bytes, from and up to; None is all of them."""
        wanted = headers.get("Range", "")
        if not self.ranges or not wanted.startswith("bytes=") or "," in wanted:
            return None
        if headers.get("If-Range") not in (None, self.tag if self.etag else None):
            return None
        size = len(self.data)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(size, int(last) + 1) if last else size


def cut(data: bytes | Path, after: int, *, reset: bool = False, **options: Any) -> Handler:
    """Promises the whole archive, and ends the connection after so many bytes of each answer."""
    return archive(data, after=after, interrupt=lambda request: request.cut(reset=reset), **options)


def stall(data: bytes | Path, after: int, release: threading.Event, **options: Any) -> Handler:
    """Sends so many bytes of each answer, and the rest when the event is set."""

    def hold(request: Request) -> None:
        while not release.wait(0.02):
            request.wait(0.001)

    return archive(data, after=after, interrupt=hold, **options)


def redirect(to: str, code: int = 302) -> Handler:
    """Answers with a redirect; the Location is `to` exactly."""
    return lambda request: request.answer(code, headers={"Location": to})


def gcs_folder(location: str, code: int = 303) -> Handler:
    """Answers with the place of an uncompressed model, as the protocol has it: no Location."""
    return lambda request: request.answer(code, location)


def web_page(text: str = "A page for people", code: int = 200) -> Handler:
    """Answers with a page for people."""
    page = f"<!doctype html>\n<html><body><h1>{text}</h1></body></html>\n"
    return lambda request: request.answer(code, page, {"Content-Type": "text/html; charset=utf-8"})


def status(
    code: int,
    headers: Headers = (),
    body: bytes | str | None = None,
    *,
    times: int | None = None,
    then: Handler | None = None,
) -> Handler:
    """Answers with a status: always, or so many times and then as `then` does."""
    fields = list(headers.items() if isinstance(headers, Mapping) else headers)

    def refuse(request: Request) -> None:
        request.answer(code, f"{code}\n" if body is None else body, fields)

    if times is None or then is None:
        return refuse
    return in_turn(*[refuse] * times, then)


def in_turn(*handlers: Handler) -> Handler:
    """The first answers the first request, the second the second; the last answers the rest."""
    turns = itertools.chain(handlers[:-1], itertools.repeat(handlers[-1]))
    lock = threading.Lock()

    def take_turn(request: Request) -> None:
        with lock:
            handler = next(turns)
        handler(request)

    return take_turn


def delayed(seconds: float, then: Handler) -> Handler:
    """Thinks for a while before it answers."""

    def think(request: Request) -> None:
        request.wait(seconds)
        then(request)

    return think


def basic_auth(user: str, password: str, then: Handler) -> Handler:
    """Answers 401 to a request without the password."""
    expected = "Basic " + _base64(f"{user}:{password}".encode())

    def check(request: Request) -> None:
        if request.headers.get("Authorization") == expected:
            then(request)
        else:
            request.answer(401, headers={"WWW-Authenticate": 'Basic realm="models"'})

    return check


def no_authorization(then: Handler) -> Handler:
    """Answers 400 to credentials, as storage does where the URL itself is signed."""

    def check(request: Request) -> None:
        if "Authorization" in request.headers:
            request.answer(400, "<Error><Code>InvalidArgument</Code></Error>")
        else:
            then(request)

    return check


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _crc32c(data: bytes | Path) -> bytes:
    import google_crc32c  # the storage emulator depends on it

    return bytes(google_crc32c.Checksum(data).digest())


class Proxy(_Service):
    """A forward proxy for plain HTTP and, by CONNECT, for anything; it records what passes.

    Args:
        names: where it leads to for names out there, as `{"tfhub.dev:443": "127.0.0.1:4711"}`.
            Other than those, it only knows this machine, and answers 403.
        password: asks for `user:password` where one is given.
        tls: the CA that issues its certificate; None: it is spoken to in plain HTTP.
    """

    def __init__(
        self,
        names: Mapping[str, str] | None = None,
        password: str | None = None,
        tls: trustme.CA | None = None,
    ) -> None:
        super().__init__(None if tls is None else _context(tls, ["127.0.0.1"]))
        self._names = dict(names or {})
        self._expected = password and "Basic " + _base64(password.encode())

    def handle(self, request: Request) -> None:
        tunnel = request.command == "CONNECT"
        authority = request.target if tunnel else urlsplit(request.target).netloc
        address = self._address(authority)
        if self._expected and request.headers.get("Proxy-Authorization") != self._expected:
            request.answer(407, headers={"Proxy-Authenticate": 'Basic realm="proxy"'})
        elif address is None:
            request.answer(403, f"{authority} is not on this machine\n")
        elif tunnel:
            self._tunnel(request, address)
        else:
            self._forward(request, address)

    def _address(self, authority: str) -> tuple[str, int] | None:
        name, _, port = self._names.get(authority, authority).rpartition("@")[2].partition(":")
        return (name, int(port or 80)) if is_loopback(name) else None

    def _tunnel(self, request: Request, address: tuple[str, int]) -> None:
        try:
            other = socket.create_connection(address, timeout=10)
        except OSError:
            request.answer(502)
            return
        request.close_connection = True
        with other, selectors.DefaultSelector() as ready:
            request.start(200)
            ready.register(request.connection, selectors.EVENT_READ, other)
            ready.register(other, selectors.EVENT_READ, request.connection)
            while not request.closing.is_set():
                for key, _ in ready.select(0.05):
                    data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    if not data:
                        return
                    key.data.sendall(data)

    def _forward(self, request: Request, address: tuple[str, int]) -> None:
        url = urlsplit(request.target)
        target = request.target.partition(url.netloc)[2] or "/"
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=30)) as upstream:
            try:
                upstream.putrequest(
                    request.command, target, skip_host=True, skip_accept_encoding=True
                )
                for name, value in request.headers.items():
                    if not name.lower().startswith(("proxy-", "connection")):
                        upstream.putheader(name, value)
                upstream.endheaders()
                answer = upstream.getresponse()
            except OSError:
                request.answer(502)
                return
            hop = {"connection", "transfer-encoding", "date", "server"}
            fields = [
                (name, value) for name, value in answer.getheaders() if name.lower() not in hop
            ]
            request.start(answer.status, [*fields, ("Connection", "close")])
            while data := answer.read(1 << 16):
                request.send(data)


def is_loopback(name: str) -> bool:
    """Whether a host's name or address is this machine's own, known without a name server."""
    if name in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def bucket_server(bucket: str = "test-bucket") -> Iterator[str]:
    """Google Cloud Storage in this process's memory, empty but for one bucket.

    Yields:
        Its endpoint, for gcsfs's `endpoint_url` or STORAGE_EMULATOR_HOST.
    """
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=bucket)
    # The emulator says neither which port it got nor lets us wait for its thread.
    thread = server._api
    thread.daemon = True
    server.start()
    try:
        yield f"http://127.0.0.1:{thread._httpd.server_port}"
    finally:
        server.stop()
        threading.Thread.join(thread, 10)


@contextlib.contextmanager
def s3_server(bucket: str) -> Iterator[str]:
    """S3 in this process's memory, empty but for one bucket.

    Yields:
        Its endpoint, for AWS_ENDPOINT_URL.
    """
    import requests
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        # Another server of this process has left its objects in the same memory.
        requests.post(f"{endpoint}/moto-api/reset", timeout=30).raise_for_status()
        requests.put(f"{endpoint}/{bucket}", timeout=30).raise_for_status()
        yield endpoint
    finally:
        server.stop()
