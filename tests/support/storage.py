"""Google Cloud Storage for tests: the emulator, with a front that is stricter and less reliable.

The emulator ignores preconditions, answers one request at a time and never fails. The front passes
requests on to it and adds what is missing: preconditions, records, latency and faults.

    with Storage(endpoint) as storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        storage.fault(lambda call: call.kind == "write", 503, every=3)
        ...
        assert len(storage.calls) == 2

It speaks plain HTTP for gcsfs. With a CA it speaks TLS under Google's names, for the client in
TensorFlow, which knows no other endpoint: `google_proxy` leads there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from servers import Proxy, Request, _Service
from waiting import until, until_unlocked

if TYPE_CHECKING:
    import trustme

Kind: TypeAlias = Literal["list", "stat", "read", "write", "begin", "part", "delete", "other"]
UPLOADS = frozenset({"write", "begin", "part"})
_now = time.time  # a test may replace this machine's clock
GOOGLE = ("www.googleapis.com", "storage.googleapis.com")


class _StorageRequest(Request):
    """A request with a body."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(_now() + getattr(self.server, "ahead", 0.0))

    do_POST = do_PUT = do_PATCH = do_DELETE = Request.do_GET  # noqa: N815


@dataclasses.dataclass(eq=False)
class Call:
    """A request, as what it means.

    Attributes:
        kind: "list", "stat" (what is known of an object), "read" (its bytes), "write" (all in
            one request), "begin" and "part" (in several), "delete".
        bucket: the bucket's name.
        name: the object's; of a "list", the prefix.
        query: the parameters.
        status: what was answered; None: not yet, or never.
        request: the request itself.
    """

    kind: Kind
    bucket: str
    name: str
    query: dict[str, str]
    request: Request
    status: int | None = None

    @property
    def is_upload(self) -> bool:
        return self.kind in UPLOADS

    @property
    def is_creation(self) -> bool:
        """Whether an object is to be made only if there is none."""
        return self.is_upload and self.query.get("ifGenerationMatch") == "0"


When: TypeAlias = Callable[[Call], bool]


@dataclasses.dataclass(eq=False)
class Fault:
    """Something that happens to some calls.

    Attributes:
        when: to which.
        what: a status to answer; "cut", which ends the connection in the middle of the body;
            "silence", which never answers; "flip", which flips a bit of what is uploaded; or
            something to call, after which the call goes on.
        every: to every so many of them.
        times: how often; None: always.
        late: after the call has taken effect, so that only the answer is lost.
        met: how many calls it happened to.
    """

    when: When
    what: int | Literal["cut", "silence", "flip"] | Callable[[Call], object]
    every: int = 1
    times: int | None = None
    late: bool = False
    met: int = 0
    _seen: int = 0
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def strikes(self, call: Call) -> bool:
        with self._lock:
            if not self.when(call) or (self.times is not None and self.met >= self.times):
                return False
            self._seen += 1
            if self._seen % self.every:
                return False
            self.met += 1
            return True

    def act(self, call: Call) -> bool:
        """Does it; whether the call is done with."""
        if self.what == "cut":
            call.request.cut(reset=True)
        elif self.what == "silence":
            call.request.closing.wait()
            call.request.cut()
        elif isinstance(self.what, int):
            call.status = self.what
            _refuse(call, self.what, "a fault of the test's")
            return True
        elif callable(self.what):
            self.what(call)
        return False


class Storage(_Service):
    """The front.

    Args:
        emulator: the emulator's endpoint. Preconditions hold among the requests of one front.
        tls: the CA for Google's names; None is plain HTTP.
    """

    def __init__(self, emulator: str, tls: trustme.CA | None = None) -> None:
        context = None
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.issue_cert(*GOOGLE).configure_cert(context)
        super().__init__(context)
        self._server.RequestHandlerClass = _StorageRequest
        self._scheme = self.url.partition(":")[0]
        self._emulator = urlsplit(emulator).netloc
        self._writing = threading.Lock()
        self._counting = threading.Lock()
        self._calls: list[Call] = []
        self._faults: list[Fault] = []
        self._now: Counter[str] = Counter()
        self._going = threading.Event()
        self._going.set()
        self.latency = 0.0
        """Seconds that each request takes at least."""
        self.preconditions = True
        """Whether preconditions are looked at; stores that ignore them carry everything out."""
        self.most_at_once: Counter[str] = Counter()
        """How many requests of a kind were in flight at once, and "uploads" of all kinds."""

    def __exit__(self, *exc: object) -> None:
        until_unlocked()
        super().__exit__(*exc)

    @property
    def calls(self) -> list[Call]:
        """What was asked, oldest first; a copy."""
        with self._counting:
            return list(self._calls)

    def forget(self) -> None:
        """Forgets what was asked, also of what this process does in the background."""
        until_unlocked()
        with self._counting:
            self._calls.clear()
            self.most_at_once.clear()

    def fault(
        self,
        when: When,
        what: int | Literal["cut", "silence", "flip"] | Callable[[Call], object],
        *,
        every: int = 1,
        times: int | None = None,
        late: bool = False,
    ) -> Fault:
        """Lets something happen to calls from now on; see `Fault`."""
        fault = Fault(when, what, every, times, late)
        self._faults.append(fault)
        return fault

    def go_ahead(self, seconds: float) -> None:
        """Sets the clock ahead, as it is seen in the headers of answers."""
        self._server.ahead = seconds  # type: ignore[attr-defined]

    def hold(self) -> threading.Event:
        """Lets all requests wait until the event is set."""
        self._going = threading.Event()
        return self._going

    def settle(self) -> None:
        """Waits until nothing is in flight, such as what a killed process has sent."""
        until(lambda: not any(self._now.values()), "the end of all requests")

    def mend(self) -> None:
        """Takes all faults away."""
        self._faults.clear()

    def handle(self, request: Request) -> None:
        length = int(request.headers.get("Content-Length", "0"))
        body = request.rfile.read(min(length, max(2048, length // 2)))
        call = _understand(request, body)
        with self._in_flight(call):
            request.wait(self.latency)
            self._going.wait(30)
            struck = [fault for fault in list(self._faults) if fault.strikes(call)]
            if any(fault.act(call) for fault in struck if not fault.late):
                request.rfile.read(length - len(body))
                return
            body += request.rfile.read(length - len(body))
            if any(fault.what == "flip" for fault in struck):
                middle = body.find(b"\n\n", body.find(b"\n\n") + 2) + 2 if b"==0==" in body else 0
                body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
            answer = self._carry_out(call, body)
            if any(fault.act(call) for fault in struck if fault.late):
                return
            call.status = answer[0]
            request.answer(*answer)

    @contextlib.contextmanager
    def _in_flight(self, call: Call) -> Iterator[None]:
        kinds = [call.kind, *(["uploads"] if call.is_upload else [])]
        with self._counting:
            self._calls.append(call)
            for kind in kinds:
                self._now[kind] += 1
                self.most_at_once[kind] = max(self.most_at_once[kind], self._now[kind])
        try:
            yield
        finally:
            with self._counting:
                self._now.subtract(kinds)

    def _carry_out(self, call: Call, body: bytes) -> tuple[int, bytes, list[tuple[str, str]]]:
        if call.kind == "delete" and "upload_id" in call.query:
            return 499, b"", []  # an upload is given up
        with contextlib.ExitStack() as held:
            if call.is_upload or call.kind in ("delete", "other"):
                held.enter_context(self._writing)
            code = self._refusal(call)
            if code is not None:
                return code, _error(code, f"{call.name}: a precondition failed"), []
            return self._forward(call, body)

    def _refusal(self, call: Call) -> int | None:
        """The status with which a precondition fails; None if none does."""
        match, generation = call.query.get("ifGenerationMatch"), call.query.get("generation")
        if not self.preconditions or (match is None and generation is None) or not call.name:
            return None
        target = f"/storage/v1/b/{call.bucket}/o/{quote(call.name, safe='')}"
        status, body, _ = self._ask("GET", target, b"", {})
        there = json.loads(body)["generation"] if status == 200 else "0"
        if match is not None and match != there:
            return 412
        return 404 if generation is not None and generation != there else None

    def _forward(self, call: Call, body: bytes) -> tuple[int, bytes, list[tuple[str, str]]]:
        target = call.request.target
        headers = dict(call.request.headers.items())
        if call.kind == "write" and call.query.get("uploadType") == "multipart":
            content = _second_part(call.request.headers.get("Content-Type", ""), body)
            if content:  # the emulator changes some bytes of such uploads, but not of these
                target = f"{target.partition('?')[0]}?uploadType=media&name={quote(call.name)}"
                headers["Content-Type"] = "application/octet-stream"
                body = content
        return self._ask(call.request.command, target, body, headers)

    def _ask(
        self, method: str, target: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes, list[tuple[str, str]]]:
        hop = {"connection", "content-length", "date", "server", "transfer-encoding"}
        sent = {k: v for k, v in headers.items() if k.lower() not in hop}
        with contextlib.closing(http.client.HTTPConnection(self._emulator, timeout=30)) as upstream:
            try:
                upstream.request(method, target, body or None, sent)
                answer = upstream.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                if self._server.closing.is_set():
                    return 502, b"", []
                raise
        fields = [(k, v) for k, v in answer.getheaders() if k.lower() not in hop]
        # The emulator takes the host from the request, and leaves the scheme to us.
        fields = [
            (k, v.replace("http:", self._scheme + ":", 1) if k.lower() == "location" else v)
            for k, v in fields
        ]
        return answer.status, content, fields


@contextlib.contextmanager
def google_proxy(
    emulator: str, ca: trustme.CA, ca_pem: Path
) -> Iterator[tuple[dict[str, str], Storage]]:
    """Leads TensorFlow's own client to the emulator.

    Yields:
        The environment for a process that is still to be started, and the front, which tells
        what was asked.
    """
    with Storage(emulator, tls=ca) as storage:
        names = {f"{name}:443": f"127.0.0.1:{storage.port}" for name in GOOGLE}
        with Proxy(names) as proxy:
            env = {
                "https_proxy": proxy.url,
                "CURL_CA_BUNDLE": str(ca_pem),
                "NO_GCE_CHECK": "true",
                "GCS_RETRY_CONFIG_MAX_RETRIES": "2",
                "NO_PROXY": "127.0.0.1,localhost",
            }
            yield env, storage


def _understand(request: Request, body: bytes) -> Call:
    path, _, raw = request.target.partition("?")
    query = dict(parse_qsl(raw, keep_blank_values=True))
    found = re.fullmatch(
        r"(/upload|/download)?/(?:storage/v1/)?b/(?P<bucket>[^/]+)(?:/o(?:/(?P<name>.+))?)?", path
    )
    if found is None:
        plain = re.fullmatch(r"/(?P<bucket>[^/]+)/(?P<name>.+)", path)
        if plain is None or request.command != "GET" or path.startswith("/batch/"):
            return Call("other", "", "", query, request)
        return Call("read", unquote(plain["bucket"]), unquote(plain["name"]), query, request)
    bucket, name = unquote(found["bucket"]), unquote(found["name"] or "")
    kind: Kind
    if request.command == "DELETE":
        kind, name = "delete", name or query.get("name", "")
    elif found[1] == "/upload":
        kind = "write"
        if "upload_id" in query:
            kind = "part"
        elif query.get("uploadType") == "resumable":
            kind = "begin"
        name = query.get("name") or _name_in(body)
    elif request.command != "GET":
        kind = "other"
    elif name:
        kind = "read" if found[1] or query.get("alt") == "media" else "stat"
    elif path.endswith("/o"):
        kind, name = "list", query.get("prefix", "")
    else:
        kind = "other"
    return Call(kind, bucket, name, query, request)


def _name_in(body: bytes) -> str:
    """The object's name in an upload's JSON."""
    found = re.search(rb'"name":\s*("(?:[^"\\]|\\.)*")', body)
    return str(json.loads(found[1])) if found else ""


def _second_part(content_type: str, body: bytes) -> bytes:
    """What is uploaded, byte for byte, out of a multipart body."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    assert boundary is not None, content_type
    mark = re.escape(b"--" + boundary[1].encode())
    line = rb"\r?\n"
    head = rb"\s*%b%b.*?%b%b.*?%b%b%b.*?%b%b" % (
        *(mark, line, line, line),
        *(line, mark, line, line, line),
    )
    start = re.match(head, body, re.DOTALL)
    end = body.rfind(b"--" + boundary[1].encode() + b"--")
    assert start is not None, body[:500]
    end -= 2 if body[end - 2 : end] == b"\r\n" and b"\r\n" in start[0] else 1
    return body[start.end() : end]


def _refuse(call: Call, code: int, message: str) -> None:
    headers = {"Content-Type": "application/json"}
    if code in (429, 503):
        headers["Retry-After"] = "0"
    call.request.answer(code, _error(code, message), headers)


def _error(code: int, message: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()
