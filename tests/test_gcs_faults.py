"""Google Cloud Storage that refuses, is silent or wants other credentials: what users read."""

from __future__ import annotations

import itertools
import json
import traceback
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import models
import pytest
import requests
from command import run_command
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from servers import Handler, Host, bucket_server, in_turn, status
from storage import Call, Storage
from waiting import SOON, in_background

import tfhub_cache as hub
from tfhub_cache.clients import gcs
from tfhub_cache.errors import CacheError, DownloadError

pytestmark = [pytest.mark.libraries, pytest.mark.timeout(120)]

FILES = models.fake_model(size=20_000)
HANDLE = "gs://test-bucket/a/m.tgz"
RATE = "User Rate Limit Exceeded. Rate of requests for user exceed configured project quota"
PAYS = "Bucket is a requester pays bucket but no user project provided."


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with bucket_server("test-bucket") as endpoint:
        yield endpoint


@pytest.fixture
def storage(emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """The bucket with one archive in it, `HANDLE`."""
    requests.get(f"{emulator}/wipe", params={"keep-buckets": "true"}, timeout=10).raise_for_status()
    with Storage(emulator) as front:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
        gcs.file_system(front.url, SOON).pipe_file(HANDLE, models.pack_files(FILES))
        front.forget()
        yield front


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """gcsfs's pauses, half a minute in all, pass at once."""
    import asyncio

    import gcsfs.retry

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(gcsfs.retry, "asyncio", types.SimpleNamespace(sleep=sleep))


def refuse(code: int, message: str) -> Callable[[Call], None]:
    """Answers as Google does, instead of the emulator."""

    def answer(call: Call) -> None:
        error = {"error": {"code": code, "message": message}}
        call.request.answer(code, json.dumps(error), {"Content-Type": "application/json"})
        call.request.cut()

    return answer


# Buckets and addresses


@pytest.mark.parametrize("command", ["ls", "verify", "prune"])
def test_a_bucket_that_does_not_exist_is_no_empty_cache(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gs://no-such-bucket/models")
    done = run_command(command)
    assert done.returncode == 1
    assert "there is no bucket 'no-such-bucket'" in done.stderr
    assert done.stdout == ""


def test_a_cache_in_a_bucket_that_does_not_exist_names_the_bucket_and_no_upload(
    storage: Storage, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gs://no-such-bucket/models")
    handle = host.publish("/m/1", models.pack_files(FILES))
    with pytest.raises(CacheError, match=r"gs://no-such-bucket/models.*no bucket") as error:
        hub.resolve(handle)
    assert "upload" not in str(error.value)
    assert host.requests == []


# Refusals


@pytest.mark.usefixtures("_at_once")
def test_a_rate_limit_is_waited_for(storage: Storage, cache_dir: Path) -> None:
    fault = storage.fault(lambda call: call.kind == "stat", refuse(403, RATE), times=3)
    assert models.read_files(hub.resolve(HANDLE)) == FILES
    assert fault.met == 3


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("code", [403, 429])
def test_a_rate_limit_that_stays_is_an_error_about_rate_and_not_about_existence(
    storage: Storage, cache_dir: Path, code: int
) -> None:
    storage.fault(lambda call: True, refuse(code, RATE))
    with pytest.raises(DownloadError, match=f"{HANDLE}.*too many requests.*{RATE}") as error:
        hub.resolve(HANDLE)
    assert "exist" not in str(error.value)
    assert "GOOGLE" not in str(error.value)


@pytest.mark.parametrize("handle", [HANDLE, "gs://test-bucket/a/folder"])
def test_a_bucket_whose_requester_pays_names_the_setting(
    storage: Storage, cache_dir: Path, handle: str
) -> None:
    storage.fault(lambda call: True, refuse(400, PAYS))
    with pytest.raises(DownloadError, match=f"{handle}.*GOOGLE_CLOUD_QUOTA_PROJECT"):
        hub.resolve(handle)


# Silence


def test_a_store_that_says_nothing_is_given_up_after_two_timeouts(
    storage: Storage, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "0.3")
    storage.fault(lambda call: True, "silence")
    with pytest.raises(DownloadError, match="did not answer in time"):
        in_background(hub.resolve, HANDLE).result(SOON)
    assert set(Counter(call.kind for call in storage.calls).values()) == {2}


def test_a_store_that_takes_nothing_of_an_upload_is_given_up(storage: Storage) -> None:
    storage.fault(lambda call: call.is_upload, "silence")
    file_system = gcs.file_system(storage.url, 0.3)
    upload = in_background(file_system.pipe_file, "test-bucket/large", bytes(40 << 20))
    with pytest.raises(OSError, match="did not answer in time"):
        upload.result(SOON)


# Uploads in several parts


@pytest.mark.parametrize("code", [404, 410])
def test_an_upload_that_the_store_has_forgotten_begins_again(
    storage: Storage, host: Host, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", f"gs://test-bucket/forgotten-{code}")
    large = models.fake_model(size=20_000_000)
    handle = host.publish("/m/1", models.pack_files(large, compression=None))
    lost = storage.fault(lambda call: call.kind == "part", refuse(code, "gone"), times=1)
    path = hub.resolve(handle)
    file_system = gcs.file_system(storage.url, SOON)
    assert {name: file_system.cat_file(f"{path}/{name}") for name in large} == large
    assert lost.met == 1
    assert [call.kind for call in storage.calls].count("begin") == 2


@pytest.mark.parametrize("code", [403, 404, 410])
def test_the_address_of_an_upload_which_is_a_secret_is_never_shown(
    storage: Storage,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: int,
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", f"gs://test-bucket/refused-{code}")
    large = models.fake_model(size=20_000_000)
    handle = host.publish("/m/1", models.pack_files(large, compression=None))
    storage.fault(lambda call: call.kind == "part", refuse(code, "refused"))
    with pytest.raises(OSError, match="test-bucket") as error:
        hub.resolve(handle)
    assert "upload_id" not in "".join(traceback.format_exception(error.value)) + caplog.text


# Credentials


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@pytest.fixture
def key_file(
    tmp_path: Path, private_key: str, host: Host, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Handler], Path]:
    """Makes a key file that is valid, with a token server of its own, and names it."""

    def make(token_server: Handler) -> Path:
        path = tmp_path / "key.json"
        account = {
            "type": "service_account",
            "client_email": "me@project.iam.gserviceaccount.com",
            "private_key": private_key,
            "token_uri": host.route("/token", token_server),
        }
        path.write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        return path

    return make


NUMBERS = itertools.count()
PLACES = pytest.mark.parametrize("place", ["archive", "folder", "cache"])


def use(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "cache":
        # Another one for each test: a process opens a cache once.
        monkeypatch.setenv("TFHUB_CACHE_DIR", f"gs://test-bucket/{next(NUMBERS)}")
        hub.cache.entries()
    else:
        hub.resolve("gs://test-bucket/" + {"archive": "m.tgz", "folder": "m"}[place])


@PLACES
@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", '{"type": "robot"}', '{"type": "service_account", "private_key": "x"}'],
    ids=["missing", "empty", "cut", "a list", "unknown type", "fields missing"],
)
def test_a_key_file_that_can_not_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, place: str
) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(OSError, match=r"gs://test-bucket.*key file") as error:
        use(place, monkeypatch)
    assert str(path) in str(error.value)
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(error.value)


@PLACES
def test_a_key_that_is_revoked_is_an_error_at_once_with_the_reason(
    key_file: Callable[[Handler], Path], host: Host, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    refused = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    key_file(status(400, {"Content-Type": "application/json"}, json.dumps(refused)))
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "20")
    with pytest.raises(OSError, match=r"invalid_grant: Invalid JWT Signature"):
        use(place, monkeypatch)
    assert len(host.requests) == 1


@pytest.mark.parametrize("place", ["archive", "cache"])
def test_a_token_server_that_is_busy_for_a_moment_makes_no_difference(
    key_file: Callable[[Handler], Path], host: Host, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    key_file(in_turn(status(503, body="busy"), status(400, body='{"error": "invalid_grant"}')))
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "21")
    with pytest.raises(OSError, match="invalid_grant"):
        use(place, monkeypatch)
    assert len(host.requests) == 2


def test_a_token_server_that_stays_busy_is_given_up(
    key_file: Callable[[Handler], Path], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file(status(503, body="busy"))
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "22")
    with pytest.raises(DownloadError, match=r"access token.*busy"):
        use("archive", monkeypatch)
    assert len(host.requests) == 3


def test_a_token_server_that_says_nothing_is_given_up_after_the_timeout(
    key_file: Callable[[Handler], Path], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file(lambda request: request.wait(600))
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "0.4")
    with pytest.raises(DownloadError, match=r"access token.*timed out"):
        in_background(use, "archive", monkeypatch).result(SOON)
    assert len(host.requests) == 1


def test_the_project_that_pays_is_named_in_each_request(
    key_file: Callable[[Handler], Path], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_file(status(200, body='{"access_token": "secret", "expires_in": 3600}'))
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "my-project")
    file_system = gcs.file_system(None, SOON, str(key))
    file_system._endpoint = storage.url
    file_system.cat_file(HANDLE)
    (call,) = storage.calls
    assert call.request.headers["x-goog-user-project"] == "my-project"
    assert call.request.headers["Authorization"] == "Bearer secret"
