"""The tests' own servers and models do what the tests believe they do."""

import contextlib
import gzip
import hashlib
import http.client
import os
import socket
import tarfile
import threading
import time
from urllib.parse import urlsplit

import models
import pytest
import requests
import servers
from servers import Host, Proxy, archive, cut, in_turn, redirect, stall, status

pytestmark = pytest.mark.once

DATA = bytes(range(256)) * 4000


def raw(
    url: str, *, target: str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Asks with a client that sends a target as it is given."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", target or url.partition(parts.netloc)[2], headers=headers or {})
        with connection.getresponse() as answer:
            return answer.status, answer.read()


def test_a_published_model_has_a_page_an_archive_and_a_folder(host: Host) -> None:
    url = host.publish("/google/spice/2", DATA, gcs="gs://tfhub-modules/google/spice/2")
    with requests.Session() as session:
        page = session.get(url)
        packed = session.get(url, params={"tf-hub-format": "compressed"})
        folder = session.get(url, params={"tf-hub-format": "uncompressed"})
        missing = session.get(url + "/nothing")
    assert "html" in page.headers["Content-Type"]
    assert packed.content == DATA
    assert packed.headers["Content-Length"] == str(len(DATA))
    assert (folder.status_code, folder.text) == (303, "gs://tfhub-modules/google/spice/2")
    assert "Location" not in folder.headers
    assert missing.status_code == 404
    assert len(host.requests) == 4
    assert host.connections == 1
    assert host.requests[1].target == "/google/spice/2?tf-hub-format=compressed"
    assert host.requests[1].headers["user-agent"].startswith("python-requests")


def test_ranges(host: Host) -> None:
    url = host.route("/m.tar.gz", archive(DATA))
    tag = requests.head(url).headers["ETag"]
    middle = requests.get(url, headers={"Range": "bytes=10-19", "If-Range": tag})
    assert (middle.status_code, middle.content) == (206, DATA[10:20])
    assert middle.headers["Content-Range"] == f"bytes 10-19/{len(DATA)}"
    assert requests.get(url, headers={"Range": "bytes=-5"}).content == DATA[-5:]
    assert requests.get(url, headers={"Range": f"bytes={len(DATA)}-"}).status_code == 416
    changed = requests.get(url, headers={"Range": "bytes=10-19", "If-Range": '"other"'})
    assert (changed.status_code, changed.content) == (200, DATA)
    whole = host.route("/whole", archive(DATA, ranges=False, etag=False, hashes=False))
    answer = requests.get(whole, headers={"Range": "bytes=10-19"})
    assert answer.content == DATA
    assert not {"ETag", "x-goog-hash", "Accept-Ranges"} & set(answer.headers)


def test_hashes_are_those_of_google_cloud_storage(host: Host) -> None:
    answer = requests.get(host.route("/m", archive(b"123456789")))
    assert answer.headers["x-goog-hash"] == "crc32c=4waSgw==, md5=JfnnlDI7RTiF9RgfG2JNCw=="


def test_signed_urls_are_compared_byte_for_byte(host: Host) -> None:
    url = host.sign("/bucket/a%7Eb%2fc.tar.gz", archive(DATA))
    assert raw(url) == (200, DATA)
    assert raw(url.replace("%7E", "~"))[0] == 403
    assert raw(url.replace("%2f", "%2F"))[0] == 403
    assert raw(host.url, target="//a")[0] == 404
    assert host.requests[0].target == url.removeprefix(host.url)
    assert host.requests[-1].target == "//a"


def test_statuses_and_redirects_come_in_turn(host: Host) -> None:
    busy = status(503, {"Retry-After": "1"}, times=2, then=archive(DATA))
    host.route("/busy", busy)
    moved = host.route("/moved", redirect("/busy", 307))
    answers = [requests.get(moved) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "1"


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_is_cut(host: Host, reset: bool) -> None:
    url = host.route("/m", in_turn(cut(DATA, 70_000, reset=reset), archive(DATA)))
    with pytest.raises(requests.exceptions.RequestException):
        requests.get(url)
    assert requests.get(url).content == DATA


def test_every_answer_is_cut_and_resuming_gets_on(host: Host) -> None:
    url = host.route("/m", cut(DATA, 1000))
    with pytest.raises(http.client.IncompleteRead) as error:
        raw(url, headers={"Range": "bytes=500-"})
    assert error.value.partial == DATA[500:1500]


def test_a_stalled_answer_continues_when_it_is_released(host: Host) -> None:
    release = threading.Event()
    with requests.get(host.route("/m", stall(DATA, 1000, release)), stream=True) as answer:
        assert answer.raw.read(1000) == DATA[:1000]
        release.set()
        assert answer.raw.read() == DATA[1000:]


def test_a_host_ends_in_the_midst_of_a_stalled_answer() -> None:
    before = threading.active_count()
    with Host() as host:
        url = host.route("/m", stall(DATA, 1000, threading.Event()))
        answer = requests.get(url, stream=True)
    with answer, pytest.raises(requests.exceptions.RequestException):
        _ = answer.content
    with pytest.raises(requests.ConnectionError):
        requests.get(url)
    assert threading.active_count() == before


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_an_answer_without_a_length(host: Host, framing) -> None:
    answer = requests.get(host.route("/m", archive(DATA, framing=framing)))
    assert answer.content == DATA
    assert "Content-Length" not in answer.headers


def test_a_content_encoding_is_only_a_label(host: Host) -> None:
    packed = gzip.compress(DATA)
    url = host.route("/m.tar.gz", archive(packed, content_encoding="gzip"))
    assert raw(url) == (200, packed)
    assert requests.get(url).content == DATA


def test_the_rate_is_that_of_a_connection(host: Host) -> None:
    url = host.route("/m", archive(DATA[:100_000], rate=200_000))
    started = time.monotonic()
    fetchers = [threading.Thread(target=requests.get, args=(url,)) for _ in range(60)]
    for fetcher in fetchers:
        fetcher.start()
    for fetcher in fetchers:
        fetcher.join()
    assert 0.4 < time.monotonic() - started < 29  # thirty, if they shared it


def test_credentials_are_asked_for_or_refused(host: Host) -> None:
    storage = host.route("/storage", servers.no_authorization(archive(DATA)))
    login = host.route("/login", servers.basic_auth("me", "secret", redirect(storage)))
    assert requests.get(login).status_code == 401
    assert requests.get(login, auth=("me", "wrong")).status_code == 401
    assert requests.get(login, auth=("me", "secret"), allow_redirects=False).status_code == 302
    assert requests.get(storage).content == DATA
    assert requests.get(storage, auth=("me", "secret")).status_code == 400


def test_tls_with_a_ca_of_our_own(tls_host: Host, ca_pem) -> None:
    url = tls_host.publish("/m/1", DATA)
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url)
    assert requests.get(f"{url}?tf-hub-format=compressed", verify=ca_pem).content == DATA
    tls_host.route("/cut", cut(DATA, 1000))
    with pytest.raises(requests.exceptions.RequestException):
        requests.get(f"{tls_host.url}/cut", verify=ca_pem)


def test_the_proxy_passes_plain_requests_and_tunnels(
    host: Host, tls_host: Host, proxy: Proxy, ca_pem
) -> None:
    proxies = {"http": proxy.url, "https": proxy.url}
    url = host.sign("/a%7e", archive(DATA))
    assert raw(proxy.url, target=url) == (200, DATA)
    secure = tls_host.route("/m", archive(DATA))
    assert requests.get(secure, proxies=proxies, verify=ca_pem).content == DATA
    assert [(seen.method, seen.target) for seen in proxy.requests] == [
        ("GET", url),
        ("CONNECT", f"127.0.0.1:{tls_host.port}"),
    ]
    assert requests.get("http://example.com/", proxies=proxies).status_code == 403


def test_a_proxy_leads_names_of_the_internet_to_a_host_here(ca, ca_pem) -> None:
    with (
        Host(tls=ca, names=["tfhub.dev"]) as host,
        Proxy({"tfhub.dev:443": f"127.0.0.1:{host.port}"}) as proxy,
    ):
        host.route("/m", archive(DATA))
        answer = requests.get("https://tfhub.dev/m", proxies={"https": proxy.url}, verify=ca_pem)
    assert answer.content == DATA


def test_a_proxy_that_asks_for_a_password(host: Host) -> None:
    url = host.route("/m", archive(DATA))
    with Proxy(password="me:secret") as proxy:
        assert requests.get(url, proxies={"http": proxy.url}).status_code == 407
        known = proxy.url.replace("//", "//me:secret@")
        assert requests.get(url, proxies={"http": known}).content == DATA


def test_an_error_in_a_handler_is_an_error_of_the_test() -> None:
    host = Host().__enter__()
    url = host.route("/m", lambda request: request.answer(200 // 0))
    with pytest.raises(requests.ConnectionError):
        requests.get(url)
    with pytest.raises(ZeroDivisionError):
        host.close()


def test_a_bucket_keeps_objects(bucket: str) -> None:
    upload = requests.post(
        f"{bucket}/upload/storage/v1/b/test-bucket/o?uploadType=media&name=model.tar.gz", data=DATA
    )
    assert upload.status_code == 200
    assert requests.get(f"{bucket}/test-bucket/model.tar.gz").content == DATA


def test_nothing_leaves_this_machine() -> None:
    with pytest.raises(RuntimeError, match="not on this machine"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(RuntimeError, match="not on this machine"):
        socket.getaddrinfo("example.com", 80)
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("example.invalid", 80)


def test_the_environment_is_clean(home, run_python) -> None:
    assert not [name for name in os.environ if name.startswith("TFHUB_")]
    assert not {"REQUESTS_CA_BUNDLE", "https_proxy", "HTTPS_PROXY", "NETRC"} & set(os.environ)
    code = "import os, sys; print(os.path.expanduser('~'), os.environ.get('A'), sys.argv[1])"
    done = run_python(code, args=["x"], env={"A": "b"}).check()
    assert done.stdout.split() == [str(home), "b", "x"]
    assert run_python("raise SystemExit(3)").returncode == 3


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", None])
@pytest.mark.parametrize("dot_slash", [True, False])
@pytest.mark.parametrize("folders", [True, False])
def test_archives_hold_what_was_packed(tmp_path, compression, dot_slash, folders) -> None:
    files = models.fake_model(size=1000)
    options = {"compression": compression, "dot_slash": dot_slash, "folders": folders}
    data = models.pack_files(files, **options)
    (tmp_path / "a").write_bytes(data)
    with tarfile.open(tmp_path / "a") as tar:
        assert [info.isdir() for info in tar.getmembers()].count(True) == folders * (2 + dot_slash)
        tar.extractall(tmp_path / "model", filter="data")
    assert models.read_files(tmp_path / "model") == files
    assert models.pack_files(files, **options) == data
    assert models.pack(models.write_files(files, tmp_path / "b"), **options) != b""


def test_hostile_members_are_packed_as_they_are(tmp_path) -> None:
    members = [
        models.member("/absolute", data=b"x"),
        models.member("../up"),
        models.member("link", tarfile.SYMTYPE, linkname="/etc"),
    ]
    (tmp_path / "a").write_bytes(models.pack_files({}, extra_members=members, folders=False))
    with tarfile.open(tmp_path / "a") as tar:
        kinds = [(info.name, info.type, info.linkname) for info in tar.getmembers()]
    assert kinds == [
        ("/absolute", tarfile.REGTYPE, ""),
        ("../up", tarfile.REGTYPE, ""),
        ("link", tarfile.SYMTYPE, "/etc"),
    ]


@pytest.mark.tensorflow
def test_the_models_compute_what_they_promise(
    text_embedding, keras_export, tf1_hub_module, large_model
) -> None:
    import numpy as np
    import tensorflow as tf

    sentences = ["the cat", "größe 犬 unknown", "", "a", ""]
    expected = np.array([models.embedding(sentence) for sentence in sentences], np.float32)
    embed = tf.saved_model.load(str(text_embedding))
    np.testing.assert_allclose(embed(tf.constant(sentences)), expected, rtol=1e-5)
    served = embed.signatures["serving_default"](sentences=tf.constant(sentences))
    np.testing.assert_allclose(served["embeddings"], expected, rtol=1e-5)

    dense = tf.saved_model.load(str(keras_export))
    np.testing.assert_allclose(dense.serve(tf.constant([[1.0, 2.0, 3.0]])), [[3.0, 5.0, 7.0]])

    for tags, factor in (([], 1), (["train"], 2)):
        module = tf.compat.v1.saved_model.load_v2(str(tf1_hub_module), tags=tags)
        embeddings = module.signatures["default"](tf.constant(sentences))["default"]
        np.testing.assert_allclose(embeddings, factor * expected, rtol=1e-5)

    large = tf.saved_model.load(str(large_model))
    np.testing.assert_allclose(large(), [0.5] * 8, atol=0.01)
    size = sum(path.stat().st_size for path in large_model.rglob("*") if path.is_file())
    assert size > 100_000_000


@pytest.mark.tensorflow
def test_archives_are_made_once(archive_of, text_embedding) -> None:
    first = hashlib.sha256(archive_of(text_embedding)).hexdigest()
    assert hashlib.sha256(archive_of(text_embedding)).hexdigest() == first
