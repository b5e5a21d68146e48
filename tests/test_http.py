"""Archives over HTTP: good hosts, bad hosts, and what people read."""

import concurrent.futures
import io
import logging
import os
import pickle
import ssl
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from models import fake_model, pack_files, read_files
from servers import (
    Host,
    Proxy,
    Request,
    archive,
    basic_auth,
    cut,
    in_turn,
    no_authorization,
    redirect,
    stall,
    status,
    web_page,
)
from waiting import SOON

import tfhub_cache as hub
from tfhub_cache.clients import http, session
from tfhub_cache.clients.access import Access
from tfhub_cache.errors import ArchiveError, DownloadError, ResolveError
from tfhub_cache.resolver import HttpResolverBase
from tfhub_cache.resolvers import archives as compressed

pytestmark = pytest.mark.libraries

MODEL = fake_model()
ARCHIVE = pack_files(MODEL)
SECRET = "X-Goog-Signature=5ec2e7"


@pytest.fixture(autouse=True)
def _cache(cache_dir: Path) -> None:
    pass


def targets(host: Host) -> list[str]:
    return [request.target for request in host.requests]


# What is asked.


def test_the_page_of_a_model_is_asked_for_the_archive(host: Host) -> None:
    handle = host.publish("/google/nnlm/2", ARCHIVE)
    path = hub.resolve(handle)
    assert read_files(path) == MODEL
    assert targets(host) == ["/google/nnlm/2?tf-hub-format=compressed"]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
def test_an_archive_is_asked_for_with_the_parameter_too(host: Host, suffix: str) -> None:
    data = pack_files(MODEL, compression=None if suffix == ".tar" else "gz")
    handle = host.route(f"/m{suffix}", archive(data))
    assert read_files(hub.resolve(handle)) == MODEL
    assert targets(host) == [f"/m{suffix}?tf-hub-format=compressed"]


def test_parameters_of_the_handle_stay_as_they_are_and_in_order(host: Host) -> None:
    handle = host.route("/m", archive(ARCHIVE)) + "?b=%7e%2b&a=1;c"
    hub.resolve(handle)
    assert targets(host) == ["/m?b=%7e%2b&a=1;c&tf-hub-format=compressed"]


def test_the_chinese_mirror_is_asked_as_tensorflow_hub_asks_it() -> None:
    assert (
        compressed.archive_url("https://hub.tensorflow.google.cn/google/nnlm/2")
        == compressed.archive_url("HTTPS://Hub.TensorFlow.google.cn:443/google/nnlm/2")
        == "https://gcs.tensorflow.google.cn/tfhub-modules/google/nnlm/2.tar.gz"
    )


def test_requests_name_the_library_and_want_the_bytes_as_they_are(host: Host) -> None:
    hub.resolve(host.publish("/m/1", ARCHIVE))
    headers = host.requests[0].headers
    assert headers["User-Agent"].startswith(f"tfhub-cache/{hub.__version__} ")
    assert headers["Accept-Encoding"] == "identity"
    assert not [name for name in headers if "tfhub-cache" in name.lower()]


def test_one_connection_serves_several_models(host: Host) -> None:
    for number in range(3):
        hub.resolve(host.publish(f"/m/{number}", ARCHIVE))
    assert len(host.requests) == 3
    assert host.connections == 1


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_every_way_to_send_an_archive_is_understood(host: Host, framing, encoding) -> None:
    handle = host.publish("/m/1", ARCHIVE, framing=framing, content_encoding=encoding)
    assert read_files(hub.resolve(handle)) == MODEL


# Redirects.


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed(host: Host, code: int) -> None:
    host.route("/moved", archive(ARCHIVE))
    assert read_files(hub.resolve(host.route("/m", redirect("/moved", code)))) == MODEL
    assert targets(host) == ["/m?tf-hub-format=compressed", "/moved"]


def test_a_signed_url_is_requested_byte_for_byte(host: Host) -> None:
    signed = host.sign("/bucket/a%2fb%7Ec+d/model.tar.gz", archive(ARCHIVE))
    assert read_files(hub.resolve(host.route("/m/1", redirect(signed)))) == MODEL
    assert targets(host)[-1] == signed.removeprefix(host.url)


def test_a_signed_url_is_requested_byte_for_byte_through_a_proxy(
    host: Host, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    signed = host.sign("/bucket/a%2fb%7Ec/model.tar.gz", archive(ARCHIVE))
    assert read_files(hub.resolve(host.route("/m/1", redirect(signed)))) == MODEL
    assert [request.target for request in proxy.requests] == [
        f"{host.url}/m/1?tf-hub-format=compressed",
        signed,
    ]


def test_spaces_and_umlauts_in_a_location_are_escaped(host: Host) -> None:
    host.route("/a b/ü", archive(ARCHIVE))
    location = "/a b/ü?x=%41".encode().decode("latin-1")
    hub.resolve(host.route("/m", redirect(location)))
    assert targets(host)[-1] == "/a%20b/%C3%BC?x=%41"


def test_a_redirect_from_https_to_http_is_refused(
    host: Host, tls_host: Host, ca_pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_pem))
    handle = tls_host.route("/m", redirect(host.publish("/plain", ARCHIVE)))
    with pytest.raises(DownloadError, match="from https to an address that is not"):
        hub.resolve(handle)
    assert host.requests == []


def test_a_redirect_from_https_in_capitals_to_http_is_refused_too(
    host: Host, tls_host: Host, ca_pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_pem))
    handle = tls_host.route("/m", redirect(host.publish("/plain", ARCHIVE)))
    with pytest.raises(DownloadError, match="from https to an address that is not"):
        hub.resolve(handle.replace("https://", "HTTPS://"))
    there = tls_host.route("/there", redirect(tls_host.url.replace("https://", "HttpS://") + "/m"))
    with pytest.raises(DownloadError, match="from https to an address that is not"):
        hub.resolve(there)
    assert host.requests == []


@pytest.mark.parametrize("between", ["\\", "%5c@", "\\@", "@"])
def test_a_login_goes_to_no_host_that_only_one_reader_of_the_redirect_sees(
    host: Host, between: str
) -> None:
    """`http://evil\\@host/` is host for one, and evil for another."""
    with Host() as evil:
        evil.route("/", status(404))
        here, there = host.url.removeprefix("http://"), evil.url.removeprefix("http://")
        handle = host.route("/m", redirect(f"http://{there}{between}me:other@{here}/"))
        with pytest.raises(DownloadError):
            hub.resolve(handle.replace("http://", "http://me:pass@"))
        assert evil.requests == []


def test_endless_redirects_end(host: Host) -> None:
    handle = host.route("/m", redirect("/m"))
    with pytest.raises(DownloadError, match="more than 20 times"):
        hub.resolve(handle)
    assert len(host.requests) == 20


# Credentials.


def write_netrc(home: Path, content: str) -> None:
    (home / ".netrc").write_text(content)
    (home / ".netrc").chmod(0o600)


def test_netrc_opens_a_model_that_needs_a_login(host: Host, home: Path) -> None:
    write_netrc(home, "machine 127.0.0.1 login me password pass")
    handle = host.publish("/m/1", basic_auth("me", "pass", archive(ARCHIVE)))
    assert read_files(hub.resolve(handle)) == MODEL


def test_credentials_do_not_follow_to_another_host(host: Host) -> None:
    with Host() as storage:
        signed = storage.sign("/m.tar.gz", no_authorization(archive(ARCHIVE)))
        handle = host.route("/m", basic_auth("me", "pass", redirect(signed)))
        handle = handle.replace("http://", "http://me:pass@")
        assert read_files(hub.resolve(handle)) == MODEL


def test_credentials_in_a_url_stay_with_its_host(host: Host) -> None:
    host.route("/moved", basic_auth("me", "pass", archive(ARCHIVE)))
    handle = host.route("/m", basic_auth("me", "pass", redirect(host.url + "/moved")))
    assert read_files(hub.resolve(handle.replace("http://", "http://me:pass@"))) == MODEL


# TLS and proxies.


def test_a_companys_ca_is_trusted_by_its_bundle(
    tls_host: Host, ca_pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = tls_host.publish("/m/1", ARCHIVE)
    with pytest.raises(DownloadError, match="REQUESTS_CA_BUNDLE") as error:
        hub.resolve(handle)
    assert "certificate verify failed" in str(error.value)
    assert tls_host.connections == 0
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_pem))
    assert read_files(hub.resolve(handle)) == MODEL


def test_certificate_checks_can_be_turned_off(
    tls_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = tls_host.publish("/m/1", ARCHIVE)
    monkeypatch.setenv("TFHUB_DISABLE_CERT_VALIDATION", "true")
    assert read_files(hub.resolve(handle)) == MODEL


def test_a_resolver_whose_context_checks_no_certificates_checks_none(tls_host: Host) -> None:
    handle = tls_host.publish("/m/1", ARCHIVE)
    resolver = compressed.HttpArchiveResolver()
    with pytest.raises(DownloadError, match="certificate verify failed"):
        resolver(handle)
    resolver._context.check_hostname = False
    resolver._context.verify_mode = ssl.CERT_NONE
    assert read_files(resolver(handle)) == MODEL


def test_a_download_goes_through_the_function_that_a_program_has_put_in_place_of_ours(
    tls_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def urlopen(self: Any, request: urllib.request.Request) -> Any:
        request.add_header("X-Team", "a")
        return urllib.request.urlopen(request, context=ssl._create_unverified_context())

    handle = tls_host.publish("/m/1", ARCHIVE)
    monkeypatch.setattr(HttpResolverBase, "_call_urlopen", urlopen)
    assert read_files(hub.resolve(handle)) == MODEL
    (request,) = tls_host.requests
    assert request.headers["X-Team"] == "a"
    with pytest.raises(DownloadError, match="_call_urlopen raised HTTP Error 404"):
        hub.resolve(handle + "0")
    monkeypatch.setattr(HttpResolverBase, "_call_urlopen", lambda self, _: io.BytesIO(ARCHIVE))
    assert read_files(hub.resolve(handle + "1")) == MODEL


def test_turning_certificate_checks_off_is_said_once_and_for_this_library_only(
    tls_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = tls_host.publish("/m/1", ARCHIVE)
    monkeypatch.setenv("TFHUB_DISABLE_CERT_VALIDATION", "true")
    with warnings.catch_warnings(record=True) as ours:
        warnings.simplefilter("always")
        hub.resolve(handle)
    with warnings.catch_warnings(record=True) as of_others:
        requests.get(handle, verify=False)
    insecure = urllib3.exceptions.InsecureRequestWarning
    assert [warning for warning in ours if warning.category is insecure] == []
    assert len([warning for warning in of_others if warning.category is insecure]) == 1


def test_a_tunnel_through_a_proxy_works(
    tls_host: Host, proxy: Proxy, ca_pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", proxy.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_pem))
    assert read_files(hub.resolve(tls_host.publish("/m/1", ARCHIVE))) == MODEL
    assert [request.method for request in proxy.requests] == ["CONNECT"]


def test_a_proxy_that_is_down_is_reported(
    host: Host, monkeypatch: pytest.MonkeyPatch, impatient
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"proxy failed.*HTTP_PROXY"):
        hub.resolve(host.publish("/m/1", ARCHIVE))


def test_a_proxy_that_asks_for_a_login_is_reported_as_such(
    tls_host: Host, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(password="user:password") as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        for handle in tls_host.publish("/m/1", ARCHIVE), host.publish("/m/1", ARCHIVE):
            with pytest.raises(DownloadError, match=r"the proxy .* 407 .*user name and password"):
                hub.resolve(handle)
        assert len(proxy.requests) == 2


def test_many_downloads_from_one_host_log_nothing_about_connections(
    host: Host, log: pytest.LogCaptureFixture
) -> None:
    count = 12
    all_are_here = threading.Barrier(count)

    def answer(request: Request) -> None:
        all_are_here.wait(SOON)
        archive(ARCHIVE)(request)

    handles = [host.publish(f"/m/{number}", answer) for number in range(count)]
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        paths = list(pool.map(hub.resolve, handles))
    assert [read_files(path) for path in paths] == [MODEL] * count
    hub.resolve(host.publish("/again", ARCHIVE))
    assert host.connections == count
    assert "pool" not in log.text


# Trouble.


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (401, "netrc"),
        (403, "login or your consent"),
        (404, "no such model or version"),
        (410, "no such model or version"),
        (418, "Check the handle"),
    ],
)
def test_a_refusal_says_what_to_do(host: Host, code: int, advice: str) -> None:
    handle = host.publish("/google/nnlm/2", status(code))
    with pytest.raises(DownloadError, match=advice) as error:
        hub.resolve(handle)
    assert handle in str(error.value)
    assert str(code) in str(error.value)
    assert (error.value.handle, error.value.url, error.value.status) == (handle, handle, code)
    assert len(host.requests) == 1


def test_an_error_names_the_last_url_but_no_signature(host: Host, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    with Host() as storage:
        storage.route("/bucket/m.tar.gz", status(403))
        handle = host.publish("/m/1", redirect(f"{storage.url}/bucket/m.tar.gz?{SECRET}"))
        with pytest.raises(DownloadError) as error:
            hub.resolve(handle + "?token=0p3n")
        assert f"{storage.url}/bucket/m.tar.gz" in str(error.value)
        storage.close()
        with pytest.raises(DownloadError) as gone:
            hub.resolve(handle + "?token=0p3n")
    for text in str(error.value), str(gone.value), caplog.text:
        assert SECRET not in text
        assert "0p3n" not in text


def raw(data: bytes, endless: Callable[[], bytes] | None = None) -> Callable[[Request], None]:
    """Answers with these bytes, and then with more and more of others."""

    def answer(request: Request) -> None:
        request.wfile.write(data)
        while endless is not None and not request.closing.is_set():
            request.wfile.write(endless())

    return answer


@pytest.mark.parametrize("code", ["200 OK", "302 Found", "404 Not Found"])
def test_a_header_that_cannot_be_read_does_not_get_a_signature_into_a_log(
    host: Host, caplog, code: str
) -> None:
    caplog.set_level(logging.DEBUG)
    handle = host.route(
        "/m",
        raw(
            f"HTTP/1.1 {code}\r\nContent-Length: 4\r\nwithout a colon\r\n"
            f"Location: /m?{SECRET}\r\n\r\nbody".encode()
        ),
    )
    with pytest.raises(ResolveError):
        hub.resolve(f"{handle}?{SECRET}")
    assert "a header that can't be read" in caplog.text
    assert SECRET not in caplog.text


def test_a_model_behind_a_header_that_cannot_be_read_is_used(host: Host) -> None:
    lines = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nwithout a colon\r\n\r\n" % len(ARCHIVE)
    assert read_files(hub.resolve(host.publish("/m/1", raw(lines + ARCHIVE)))) == MODEL


@pytest.mark.parametrize("code", [100, 102, 103, 199])
def test_answers_that_only_announce_another_one_are_skipped(host: Host, code: int) -> None:
    def answer(request: Request) -> None:
        for _ in range(3):
            request.wfile.write(b"HTTP/1.1 %d Soon\r\nLink: </x>; rel=y\r\n\r\n" % code)
        archive(ARCHIVE)(request)

    assert read_files(hub.resolve(host.publish("/m/1", answer))) == MODEL


@pytest.mark.parametrize(
    "endless",
    [
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"HTTP/1.1 103 Early Hints\r\n",
    ],
    ids=["announcements", "trailers", "headers of an announcement"],
)
def test_an_answer_that_never_comes_to_its_end_is_given_up(
    host: Host, endless: bytes, impatient
) -> None:
    more = endless if endless.endswith(b"\r\n\r\n") else b"X-More: 1\r\n"
    with pytest.raises(ResolveError):
        hub.resolve(host.publish("/m/1", raw(endless, lambda: 100 * more)))


@pytest.mark.parametrize("code", [404, 503, 302, 206])
def test_what_a_terminal_would_obey_is_escaped_in_what_a_server_says(
    host: Host, code: int, impatient, caplog
) -> None:
    answer = raw(
        b"HTTP/1.1 %d \x1b[2J\xff\x9bgone\r\nContent-Range: \x1b[2J\r\nConnection: close\r\n"
        b"Content-Length: 0\r\nLocation: http://\x1b[2J/\x1b[2J\r\n\r\n" % code
    )
    with pytest.raises(DownloadError) as error:
        hub.resolve(host.publish("/m/1", answer))
    assert str(error.value).isprintable()
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize("load_format", ["COMPRESSED", "UNCOMPRESSED"])
def test_a_handle_with_a_surrogate_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch, load_format: str
) -> None:
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", load_format)
    with pytest.raises(DownloadError, match="surrogate") as error:
        hub.resolve("https://host/\udc80/1")
    str(error.value).encode()


# Servers that trickle.

TRICKLES = {
    "the head": (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "announcements": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"[:1]),
    "the body": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + ARCHIVE[:1000], b"x"),
    "a chunk's length": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x"),
}


@pytest.mark.parametrize("what", TRICKLES)
def test_a_server_that_trickles_for_ever_is_given_up(
    host: Host, monkeypatch: pytest.MonkeyPatch, what: str, impatient
) -> None:
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "0.5")
    start, drop = TRICKLES[what]

    def answer(request: Request) -> None:
        request.wfile.write(start)
        while not request.closing.wait(0.02):
            request.wfile.write(drop)

    with pytest.raises(DownloadError, match=r"it sent \d+ bytes in .*TFHUB_HTTP_MIN_RATE asks"):
        hub.resolve(host.publish("/m/1", answer))


@pytest.mark.parametrize(
    "drop", [b"x", b"x: y\r\n" * 1000], ids=["a letter now and then", "fields without an end"]
)
def test_a_proxy_that_never_ends_its_answer_to_connect_is_given_up(
    host: Host, monkeypatch: pytest.MonkeyPatch, drop: bytes, impatient
) -> None:
    def answer(request: Request) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not request.closing.wait(0.02):
            request.wfile.write(drop)

    host.route("hub.invalid:443", answer)
    monkeypatch.setenv("HTTPS_PROXY", host.url)
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "0.2")
    with pytest.raises(DownloadError):
        hub.resolve("https://hub.invalid/m/1")


@pytest.mark.parametrize("rate", ["0", "10"])
def test_a_slow_server_is_waited_for_where_the_least_rate_allows_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, rate: str
) -> None:
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "1")
    monkeypatch.setenv("TFHUB_HTTP_MIN_RATE", rate)
    small = fake_model(size=100)
    packed = pack_files(small)
    handle = host.publish("/m/1", archive(packed, rate=len(packed) / 3))
    assert read_files(hub.resolve(handle)) == small


def test_a_server_is_not_too_slow_while_it_has_to_wait_for_the_reader(
    host: Host,
) -> None:
    handle = host.route("/m", archive(bytes(3_000_000)))
    with http.get(
        handle, handle, access=Access(timeout=1, min_rate=1e6, verify=True), pause=time.sleep
    ) as answer:
        received = 0
        while data := answer.read(1 << 20):
            received += len(data)
            time.sleep(0.7)
    assert received == 3_000_000


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_passing_trouble_of_the_server_is_tried_again(host: Host, code: int, impatient) -> None:
    handle = host.publish("/m/1", status(code, times=3, then=archive(ARCHIVE)))
    assert read_files(hub.resolve(handle)) == MODEL
    assert len(host.requests) == 4


@pytest.mark.parametrize(("code", "advice"), [(429, "fewer requests"), (503, "in trouble")])
def test_lasting_trouble_of_the_server_is_reported(
    host: Host, code: int, advice: str, impatient
) -> None:
    handle = host.publish("/m/1", status(code))
    with pytest.raises(DownloadError, match=advice):
        hub.resolve(handle)
    assert len(host.requests) == 5


def test_retry_after_is_honoured_within_reason(host: Host, impatient) -> None:
    first = status(429, {"Retry-After": "7"})
    second = status(503, {"Retry-After": "86400"})
    hub.resolve(host.publish("/m/1", in_turn(first, second, archive(ARCHIVE))))
    assert impatient == [7, http.MAX_RETRY_AFTER]


def test_pauses_between_requests_grow(host: Host, impatient: list[float]) -> None:
    hub.resolve(host.publish("/m/1", status(503, times=4, then=archive(ARCHIVE))))
    for pause, most in zip(impatient, [0.25, 0.5, 1, 2], strict=True):
        assert most / 2 <= pause <= most


def test_a_server_that_ends_the_connection_without_an_answer_is_asked_three_times(
    host: Host, impatient
) -> None:
    def hang_up(request: Request) -> None:
        request.cut()

    handle = host.publish("/m/1", in_turn(hang_up, hang_up, archive(ARCHIVE)))
    assert read_files(hub.resolve(handle)) == MODEL
    with pytest.raises(DownloadError):
        hub.resolve(host.publish("/m/2", hang_up))
    assert [request.path for request in host.requests] == 3 * ["/m/1"] + 3 * ["/m/2"]


def test_a_server_that_is_busy_and_then_silent_is_asked_again(host: Host, impatient) -> None:
    busy, hang_up = status(503), lambda request: request.cut()
    handle = host.publish("/m/1", in_turn(busy, busy, busy, hang_up, archive(ARCHIVE)))
    assert read_files(hub.resolve(handle)) == MODEL
    assert len(host.requests) == 5


def test_a_failure_of_tls_is_not_repeated(tls_host: Host, impatient: list[float]) -> None:
    with pytest.raises(DownloadError, match="certificate verify failed"):
        hub.resolve(tls_host.publish("/m/1", ARCHIVE))
    assert impatient == []


def test_no_network_is_reported(impatient) -> None:
    with pytest.raises(DownloadError, match=r"no connection: .*Check the network") as error:
        hub.resolve("https://nowhere.invalid/google/nnlm/2")
    assert "nowhere.invalid" in str(error.value)


def test_a_server_that_does_not_answer_is_given_up(
    host: Host, monkeypatch: pytest.MonkeyPatch, impatient
) -> None:
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "0.2")
    release = threading.Event()
    handle = host.publish("/m/1", lambda request: release.wait(10) and None)
    try:
        with pytest.raises(DownloadError, match=r"did not answer.*TFHUB_HTTP_TIMEOUT"):
            hub.resolve(handle)
    finally:
        release.set()


def test_a_download_that_stalls_is_given_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "1.5")
    release = threading.Event()
    try:
        with pytest.raises(DownloadError, match=r"broke off: .*[Tt]imed out"):
            hub.resolve(host.publish("/m/1", stall(ARCHIVE, 1000, release)))
    finally:
        release.set()


def test_a_connection_that_is_cut_is_reported(host: Host, cache_dir: Path) -> None:
    with pytest.raises(DownloadError, match="broke off"):
        hub.resolve(host.publish("/m/1", cut(ARCHIVE, 100_000, ranges=False)))
    assert list(cache_dir.iterdir()) == []


def test_a_web_page_instead_of_an_archive_is_reported(host: Host, cache_dir: Path) -> None:
    handle = host.route("/login", web_page())
    with pytest.raises(ArchiveError, match="does not appear to be a valid module") as error:
        hub.resolve(handle)
    assert "web page" in str(error.value)
    assert list(cache_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("handle", "cause"),
    [
        ("http://", "no host"),
        ("http:///m?sig=5ec2e7", "no host"),
        ("http://:port/m", "host or port makes no sense"),
        ("http://127.0.0.1:99999/m?sig=5ec2e7", "host or port makes no sense"),
        ("http://me:5ec2e7@127.0.0.1:99999/m", "host or port makes no sense"),
        ("http://[::1/m", "host or port makes no sense"),
        ("http://a..b/m", "no host"),
        (f"http://{'a' * 70}.invalid/m", "no host"),
        ("https://host/my model?sig=5ec2e7", "a space"),
        ("https://host/m/1\nModule: another", "control character"),
        ("https://host/m/1#\nModule: another", "control character"),
        ("https://host/m 1", "a space"),
    ],
)
def test_a_malformed_url_is_an_error_that_says_so_at_once(handle: str, cause: str, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DownloadError, match=cause) as error:
        hub.resolve(handle)
    assert "5ec2e7" not in str(error.value) + caplog.text
    assert "Retrying" not in caplog.text
    assert error.value.__context__ is None


@pytest.mark.parametrize(
    "location", ["ftp://host/m?sig=5ec2e7", "file:///etc/passwd", "http://a..b/", "http://[::1:x/"]
)
def test_a_redirect_that_cannot_be_followed_is_reported(host: Host, location: str, caplog) -> None:
    with pytest.raises(DownloadError, match="redirected to an address that can't be asked") as e:
        hub.resolve(host.route("/m", redirect(location)))
    assert "5ec2e7" not in str(e.value) + caplog.text


def test_umlauts_in_a_handle_are_escaped(host: Host) -> None:
    host.route("/mödel/1", archive(ARCHIVE))
    hub.resolve(f"{host.url}/mödel/1")
    assert targets(host) == ["/m%C3%B6del/1?tf-hub-format=compressed"]


def test_the_scheme_may_be_written_in_capitals(host: Host) -> None:
    handle = host.publish("/m/1", ARCHIVE).replace("http://", "HTTP://")
    assert read_files(hub.resolve(handle)) == MODEL


def test_no_secret_hides_in_what_an_error_refers_to(impatient) -> None:
    with pytest.raises(DownloadError) as error:
        hub.resolve(f"http://127.0.0.1:9/m?{SECRET}")
    link: BaseException | None = error.value
    while link is not None:
        assert not hasattr(link, "request")
        link = link.__cause__ or link.__context__


def test_a_ca_bundle_that_is_not_there_is_reported(
    tls_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
    with pytest.raises(DownloadError, match=r"/no/such/bundle\.pem.*Check REQUESTS_CA_BUNDLE"):
        hub.resolve(tls_host.publish("/m/1", ARCHIVE))


def test_a_retry_after_that_makes_no_sense_does_not_count(host: Host, impatient) -> None:
    busy = status(503, {"Retry-After": "soon"})
    assert read_files(hub.resolve(host.publish("/m/1", in_turn(busy, archive(ARCHIVE))))) == MODEL


@pytest.mark.parametrize(
    ("proxy_url", "advice"),
    [("foo://127.0.0.1:9", "HTTP_PROXY"), ("socks5://127.0.0.1:9", "SOCKS")],
)
def test_a_proxy_that_is_set_wrongly_is_reported(
    host: Host, monkeypatch: pytest.MonkeyPatch, proxy_url: str, advice: str, impatient
) -> None:
    monkeypatch.setenv("http_proxy", proxy_url)
    with pytest.raises(DownloadError, match=advice):
        hub.resolve(host.publish("/m/1", ARCHIVE))


def test_errors_survive_a_way_through_another_process(host: Host) -> None:
    with pytest.raises(DownloadError) as error:
        hub.resolve(host.url + "/nothing")
    copy = pickle.loads(pickle.dumps(error.value))
    assert isinstance(copy, OSError)
    assert isinstance(copy, ResolveError)
    assert (str(copy), copy.status) == (str(error.value), 404)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_does_not_share_its_parents_connection(host: Host) -> None:
    hub.resolve(host.publish("/m/1", ARCHIVE))
    handle = host.publish("/m/2", ARCHIVE)
    child = os.fork()
    if child == 0:
        try:
            hub.resolve(handle)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert len(host.requests) == 2
    assert host.connections == 2


def test_the_session_is_one_of_requests() -> None:
    assert isinstance(session.shared_session(os.getpid()), requests.Session)
