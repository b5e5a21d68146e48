"""Models on Kaggle: their pages, its API, consent, credentials, and its notebooks."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from kaggle_site import LOGIN, LOOKALIKES, MODEL, NO_CONSENT, PAGE, TOKEN, KaggleSite
from models import fake_model, pack_files, read_files
from servers import SIGNED_QUERY, Host, archive, cut, in_turn, redirect, status, web_page

import tfhub_cache as hub
from tfhub_cache.clients.kaggle import find_credentials
from tfhub_cache.errors import ArchiveError, DownloadError, OfflineError

CONTENT = fake_model()
ARCHIVE = pack_files(CONTENT)
DOWNLOAD = f"/api/v1/models/{MODEL}/2/download"
SITE = "https://www.kaggle.com"
HANDLE = f"{PAGE}/2"
LONG = PAGE.replace("tensorFlow2/", "frameworks/tensorFlow2/variations/")
pytestmark = pytest.mark.libraries
needs_kagglehub = pytest.mark.skipif(
    importlib.util.find_spec("kagglehub") is None, reason="kagglehub is not installed"
)


@pytest.fixture
def kaggle(
    ca: trustme.CA, ca_pem: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KaggleSite]:
    with KaggleSite(ca, ca_pem, ARCHIVE).running() as site:
        for name, value in site.env.items():
            monkeypatch.setenv(name, value)
        yield site


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    return TOKEN


# Pages.


@pytest.mark.parametrize(
    "handle",
    [
        HANDLE,
        f"https://kaggle.com/models/{MODEL}/2",
        PAGE,
        f"{LONG}/versions/2",
        LONG,
    ],
)
def test_a_page_serves_the_model_in_each_form_of_its_address(
    kaggle: KaggleSite, token: str, handle: str
) -> None:
    assert read_files(hub.resolve(handle)) == CONTENT
    (asked,) = kaggle.site.requests
    version = "" if handle.endswith("en-dim128") else "/2"
    assert asked.target == f"/models/{MODEL}{version}?tf-hub-format=compressed"
    assert asked.headers["Authorization"] is None
    assert all(request.headers["Authorization"] is None for request in kaggle.stored)


def test_the_query_of_an_address_is_sent_as_it_is(kaggle: KaggleSite) -> None:
    hub.resolve(f"{HANDLE}?select=a#top")
    assert kaggle.site.requests[0].target == f"/models/{MODEL}/2?select=a&tf-hub-format=compressed"


def test_a_cached_model_asks_for_nothing(kaggle: KaggleSite) -> None:
    hub.resolve(HANDLE)
    before = len(kaggle.site.requests)
    hub.resolve(HANDLE)
    assert len(kaggle.site.requests) == before


# The API.

REFUSALS = [status(401), status(403), status(404), web_page("Log in")]


@pytest.mark.parametrize("page", REFUSALS, ids=["401", "403", "404", "login"])
def test_where_the_page_refuses_the_api_serves_the_model(
    kaggle: KaggleSite, token: str, page: Callable[..., None]
) -> None:
    kaggle.page, kaggle.needs = page, "login"
    assert read_files(hub.resolve(HANDLE)) == CONTENT
    assert kaggle.asked == [f"/models/{MODEL}/2", DOWNLOAD]
    assert kaggle.stored[0].query == SIGNED_QUERY


def test_a_page_that_redirects_to_a_login_is_a_refusal(kaggle: KaggleSite, token: str) -> None:
    kaggle.page = redirect("/account/login")
    kaggle.site.route("/account/login", web_page("Log in"))
    assert read_files(hub.resolve(HANDLE)) == CONTENT


def test_a_model_of_tfhub_dev_that_needs_a_login_is_served_by_the_api(
    kaggle: KaggleSite, token: str
) -> None:
    kaggle.site.route(
        "/google/nnlm-en-dim128/2", redirect(f"{HANDLE}?tfhub-redirect=true", code=301)
    )
    kaggle.page, kaggle.needs = status(403), "login"
    assert read_files(hub.resolve("https://tfhub.dev/google/nnlm-en-dim128/2")) == CONTENT
    assert kaggle.asked[-1] == DOWNLOAD
    assert kaggle.site.requests[0].headers["Authorization"] is None


def test_a_page_to_which_tfhub_dev_leads_and_that_leads_to_a_login_is_served_by_the_api(
    kaggle: KaggleSite, token: str
) -> None:
    kaggle.site.route("/google/nnlm-en-dim128/2", redirect(f"{LONG}/versions/2?from=tfhub"))
    kaggle.site.route(f"{LONG.removeprefix(SITE)}/versions/2", redirect("/account/login"))
    kaggle.site.route("/account/login", web_page("Log in"))
    kaggle.needs = "login"
    assert read_files(hub.resolve("https://tfhub.dev/google/nnlm-en-dim128/2")) == CONTENT
    assert kaggle.asked[-1] == DOWNLOAD


def test_names_that_lead_elsewhere_are_no_models(kaggle: KaggleSite, token: str) -> None:
    kaggle.page = status(403)
    for odd in f"{SITE}/models/../a/b/c/1", f"{SITE}/models/a/%2e%2e/b/c/1", f"{SITE}/models/a/b/c":
        with pytest.raises(DownloadError, match="404"):
            hub.resolve(odd)
    assert not any(request.headers["Authorization"] for request in kaggle.site.requests)


@pytest.mark.parametrize(
    "host",
    [*LOOKALIKES, "www.kaggle.com@evilkaggle.com", "evilkaggle.com?https://www.kaggle.com"],
)
def test_hosts_that_look_like_kaggles_are_not_kaggle(
    kaggle: KaggleSite, token: str, host: str
) -> None:
    kaggle.page = status(403)
    with pytest.raises(DownloadError, match=r"the server answered 40[34]"):
        hub.resolve(f"https://{host}/models/{MODEL}/2")
    assert DOWNLOAD not in kaggle.asked


@pytest.mark.parametrize("is_mirror", [False, True])
def test_a_host_that_redirects_to_kaggle_gets_no_model_with_the_users_credentials(
    kaggle: KaggleSite, token: str, host: Host, monkeypatch: pytest.MonkeyPatch, is_mirror: bool
) -> None:
    handle = host.route(f"/models/{MODEL}/2", redirect(HANDLE))
    if is_mirror:
        handle = HANDLE
        monkeypatch.setenv("TFHUB_MIRROR", host.url)
    kaggle.page = status(403)
    with pytest.raises(DownloadError, match="the server answered 403"):
        hub.resolve(handle)
    assert DOWNLOAD not in kaggle.asked


def test_a_public_model_that_no_page_serves_needs_no_credentials(kaggle: KaggleSite) -> None:
    kaggle.page = web_page("A model of Keras")
    assert read_files(hub.resolve(HANDLE)) == CONTENT
    assert [request.headers["Authorization"] for request in kaggle.site.requests] == [None, None]


@pytest.mark.parametrize("framework", ["tfLite", "keras", "pyTorch", "tensorflow1"])
def test_models_of_each_framework_are_resolved(kaggle: KaggleSite, framework: str) -> None:
    files = {"model.any": b"weights", "config.json": b"{}"}
    kaggle.page, kaggle.storage = web_page("No SavedModel"), archive(pack_files(files))
    handle = kaggle.publish(f"google/gemma/{framework}/2b")
    assert read_files(hub.resolve(handle)) == files


@pytest.mark.tensorflow
def test_a_model_of_another_framework_that_is_loaded_says_what_it_is(kaggle: KaggleSite) -> None:
    kaggle.storage = archive(pack_files({"model.weights.h5": b"weights"}))
    with pytest.raises(ValueError, match=r"contains neither.* It is a model for keras"):
        hub.load(kaggle.publish("google/gemma/keras/2b"))


def test_the_api_says_which_version_is_the_newest(kaggle: KaggleSite, token: str) -> None:
    kaggle.page, kaggle.needs = status(403), "login"
    assert read_files(hub.resolve(PAGE)) == CONTENT
    assert kaggle.asked[1:] == [f"/api/v1/models/{MODEL}/get", DOWNLOAD]


@pytest.mark.parametrize("answer", ["{", "{}", "[]", '{"versionNumber": "2/../3"}'])
def test_an_answer_without_a_version_is_an_error(
    kaggle: KaggleSite, token: str, answer: str
) -> None:
    kaggle.page, kaggle.api = status(403), status(200, body=answer)
    with pytest.raises(DownloadError, match="Kaggle did not say which version is newest"):
        hub.resolve(PAGE)


def test_credentials_are_sent_to_kaggle_only(
    kaggle: KaggleSite, token: str, host: Host, monkeypatch: pytest.MonkeyPatch, log
) -> None:
    mirror = host.route(f"/models/{MODEL}/2", status(404))
    assert mirror.startswith(host.url)
    monkeypatch.setenv("TFHUB_MIRROR", f"{host.url},direct")
    kaggle.page, kaggle.needs = status(403), "login"
    kaggle.storage = status(404)
    with pytest.raises(DownloadError) as error:
        hub.resolve(HANDLE)
    kaggle.storage = archive(ARCHIVE)
    path = hub.resolve(HANDLE)
    sent = [request.headers["Authorization"] for request in kaggle.site.requests]
    assert set(sent) == {None, f"Bearer {TOKEN}"}
    for request in kaggle.site.requests:
        assert (request.headers["Authorization"] is None) == request.path.startswith("/models/")
    elsewhere = [*host.requests, *kaggle.stored, *kaggle.proxy.requests]
    assert len(kaggle.stored) > 1
    assert all(TOKEN not in str(request.headers) + request.target for request in elsewhere)
    manifest = Path(f"{path}.manifest.json").read_text()
    assert TOKEN not in str(error.value) + log.text + manifest


def test_a_signed_address_that_has_expired_is_asked_for_again_at_the_api(
    kaggle: KaggleSite, token: str
) -> None:
    kaggle.page, kaggle.needs = status(403), "login"
    kaggle.storage = in_turn(cut(ARCHIVE, len(ARCHIVE) // 2), status(403), archive(ARCHIVE))
    assert read_files(hub.resolve(HANDLE)) == CONTENT
    assert kaggle.asked == [f"/models/{MODEL}/2", DOWNLOAD, DOWNLOAD]


def test_credentials_of_kaggle_come_before_the_login_in_netrc(
    kaggle: KaggleSite, token: str, home: Path
) -> None:
    (home / ".netrc").write_text("machine www.kaggle.com login old password old\n")
    kaggle.page, kaggle.needs = status(403), "login"
    assert read_files(hub.resolve(HANDLE)) == CONTENT


def test_an_api_that_asks_for_fewer_requests_is_waited_for(
    kaggle: KaggleSite, token: str, impatient: list[float]
) -> None:
    kaggle.page = status(403)
    busy = status(429, {"Retry-After": "7"})
    kaggle.api = in_turn(busy, busy, redirect(kaggle.signed))
    assert read_files(hub.resolve(HANDLE)) == CONTENT
    assert impatient.count(7) == 2


def test_bytes_that_are_not_those_of_the_checksum_are_refused(
    kaggle: KaggleSite, token: str, impatient: list[float]
) -> None:
    kaggle.page = status(403)
    other = archive(pack_files({**CONTENT, "assets/words.txt": b"others"}))
    stated = archive(ARCHIVE, ranges=False)
    object.__setattr__(other, "_fixed", stated._fixed)
    kaggle.storage = other
    with pytest.raises(DownloadError, match="not what the server promised"):
        hub.resolve(HANDLE)


# What people read.


def refusal(kaggle: KaggleSite, handle: str = HANDLE) -> str:
    kaggle.page = status(403)
    with pytest.raises(DownloadError) as error:
        hub.resolve(handle)
    assert str(error.value).startswith(f"Could not download {handle} from https://www.kaggle.com/")
    assert error.value.status in (401, 403, 404)
    return str(error.value)


def test_without_credentials_the_error_says_how_to_get_them(kaggle: KaggleSite) -> None:
    kaggle.needs = "login"
    said = refusal(kaggle)
    assert "Kaggle answered 403 (Permission 'models.get' was denied)" in said
    assert "create a token at https://www.kaggle.com/settings" in said
    assert "KAGGLE_API_TOKEN or the file ~/.kaggle/access_token" in said
    assert refusal(kaggle, PAGE).count("create a token") == 1


def test_a_model_that_needs_consent_says_where_to_give_it(kaggle: KaggleSite, token: str) -> None:
    kaggle.needs = "consent"
    said = refusal(kaggle)
    assert NO_CONSENT.rstrip(".") in said
    assert "give your consent at https://www.kaggle.com/models/google/nnlm, then try" in said
    assert "The credentials found in KAGGLE_API_TOKEN may" in said


def test_credentials_that_kaggle_refuses_are_named_and_not_shown(
    kaggle: KaggleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "0ld5ec2e7")
    said = refusal(kaggle)
    assert "Kaggle answered 401" in said
    assert "found in KAGGLE_USERNAME and KAGGLE_KEY are wrong or revoked: create a token" in said
    assert "0ld5ec2e7" not in said


def test_a_login_page_of_the_api_is_a_refusal(kaggle: KaggleSite, token: str) -> None:
    kaggle.api = web_page("Log in")
    kaggle.page = status(403)
    with pytest.raises(DownloadError, match=r"Kaggle answered 200 \(a web page\)\. Log in at"):
        hub.resolve(HANDLE)


def test_credentials_that_are_revoked_during_a_download_are_named(
    kaggle: KaggleSite, token: str
) -> None:
    kaggle.api = in_turn(redirect(kaggle.signed), status(401))
    kaggle.storage = in_turn(cut(ARCHIVE, len(ARCHIVE) // 2), status(403))
    assert "credentials found in KAGGLE_API_TOKEN are wrong or revoked" in refusal(kaggle)


def test_a_refusal_of_the_storage_is_not_said_to_be_of_kaggle(
    kaggle: KaggleSite, token: str
) -> None:
    """As where a company blocks it: no login at Kaggle helps."""
    kaggle.page, kaggle.storage = status(403), status(403, body='{"message": "consent at x.com"}')
    with pytest.raises(DownloadError, match=r"storage.googleapis.com.*the server answered 403"):
        hub.resolve(HANDLE)


def test_the_address_of_a_model_without_its_variation_says_what_it_lacks(
    kaggle: KaggleSite,
) -> None:
    handle = f"{SITE}/models/google/nnlm"
    kaggle.site.route("/models/google/nnlm", web_page("Choose a variation"))
    with pytest.raises(ArchiveError, match="at Kaggle, its framework and variation"):
        hub.resolve(handle)


def test_a_model_that_is_not_there_says_so(kaggle: KaggleSite) -> None:
    said = refusal(kaggle, f"{PAGE}9/1")
    assert "Kaggle answered 404. Check the model and its version" in said


@pytest.mark.parametrize("text", ["kéy", "two\nlines", "{}", '{"username": "me"}', '{"key": 1}'])
def test_credentials_of_no_use_are_named_and_not_shown(
    kaggle: KaggleSite, home: Path, monkeypatch: pytest.MonkeyPatch, text: str, run_python
) -> None:
    if text.startswith("{"):
        file = home / ".kaggle" / "kaggle.json"
        file.parent.mkdir()
        file.write_text(text)
        named = "~/.kaggle/kaggle.json"
    else:
        monkeypatch.setenv("KAGGLE_API_TOKEN", text)
        named = "KAGGLE_API_TOKEN"
    kaggle.page = status(403)
    with pytest.raises(DownloadError) as error:
        hub.resolve(HANDLE)
    assert named in str(error.value)
    assert text not in str(error.value)
    assert any(problem.startswith(named) for problem in hub.cache.environment().problems)


# Credentials.


def test_files_that_notepad_of_windows_has_written_are_read(home: Path) -> None:
    folder = home / ".kaggle"
    folder.mkdir()
    login = json.dumps({"username": "me", "key": "k"})
    (folder / "kaggle.json").write_text(login, encoding="utf-8-sig")
    assert find_credentials({}, False) is not None
    (folder / "access_token").write_text(f"{TOKEN}\r\n", encoding="utf-8-sig")
    found = find_credentials({}, False)
    assert found is not None
    assert found.authorization == f"Bearer {TOKEN}"


@needs_kagglehub
def test_credentials_are_found_where_kagglehub_finds_them_in_its_order(
    home: Path, tmp_path: Path, run_python, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_file, other_file, config = tmp_path / "token", tmp_path / "other", tmp_path / "config"
    folder = home / ".kaggle"
    folder.mkdir()
    config.mkdir()
    files = {
        token_file: "of the notebook\n",
        other_file: "in a file\n",
        folder / "access_token": "of this user\n",
        folder / "access_token.txt": "of Windows",
        config / "kaggle.json": json.dumps({"username": "configured", "key": "k1"}),
        folder / "kaggle.json": json.dumps({"username": "legacy", "key": "k2"}),
    }
    for file, text in files.items():
        file.write_text(text)
    environment = {
        "KAGGLE_KERNEL_RUN_TYPE": "Interactive",
        "KAGGLE_DATA_PROXY_URL": "http://127.0.0.1:9",
        "KAGGLE_API_V1_TOKEN": str(token_file),
        "KAGGLE_API_TOKEN": str(other_file),
        "KAGGLE_USERNAME": "me",
        "KAGGLE_KEY": "k0",
        "KAGGLE_CONFIG_DIR": str(config),
    }
    steps: list[dict[str, str | None]] = [
        {},
        {"KAGGLE_KERNEL_RUN_TYPE": None},
        {"KAGGLE_API_TOKEN": "itself"},
        {"KAGGLE_API_TOKEN": None},
        {str(folder / "access_token"): None},
        {str(folder / "access_token.txt"): None},
        {"KAGGLE_KEY": None},
        {"KAGGLE_CONFIG_DIR": None},
        {str(folder / "kaggle.json"): None},
    ]
    ours = []
    known = dict(environment)
    gone = []
    for step in steps:
        for name, value in step.items():
            if os.path.isabs(name):
                gone.append((name, Path(name).read_text()))
                os.remove(name)
            elif value is None:
                del known[name]
            else:
                known[name] = value
        found = find_credentials(known, "KAGGLE_KERNEL_RUN_TYPE" in known)
        ours.append(None if found is None else found.authorization)
    for name, text in gone:
        Path(name).write_text(text)
    code = f"""
import base64, os
from kagglehub.config import get_kaggle_credentials
for step in {steps!r}:
    for name, value in step.items():
        if os.path.isabs(name):
            os.remove(name)
        elif value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    found = get_kaggle_credentials()
    if found is None:
        print(None)
    elif found.api_key:
        print("Bearer", found.api_key)
    else:
        print("Basic", base64.b64encode(f"{{found.username}}:{{found.key}}".encode()).decode())
"""
    theirs = run_python(code, env=environment).check().stdout.splitlines()
    assert list(map(str, ours)) == theirs
    assert len(set(theirs)) == len(steps)


def test_secrets_of_colab_are_found(tmp_path: Path, run_python) -> None:
    (tmp_path / "google" / "colab").mkdir(parents=True)
    (tmp_path / "google" / "colab" / "__init__.py").write_text("")
    (tmp_path / "google" / "colab" / "userdata.py").write_text(
        "secrets = {'KAGGLE_USERNAME': 'me\\n', 'KAGGLE_KEY': 'key'}\nget = secrets.__getitem__\n"
    )
    code = """
import sys, tfhub_cache
from google.colab import userdata
print(tfhub_cache.cache.environment().kaggle)
from tfhub_cache.clients.kaggle import find_credentials
print(find_credentials({}, False).authorization)
userdata.secrets['KAGGLE_API_TOKEN'] = 'token'
print(find_credentials({}, False).authorization)
"""
    done = run_python(code, env={"PYTHONPATH": tmp_path}).check()
    login = base64.b64encode(b"me:key").decode()
    assert done.stdout.splitlines() == ["secrets of Colab", f"Basic {login}", "Bearer token"]


def test_env_says_where_credentials_were_found_and_not_which(
    token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from tfhub_cache.cli import main

    assert main(["env"]) == 0
    shown = capsys.readouterr().out
    assert "credentials for Kaggle         KAGGLE_API_TOKEN\n" in shown
    assert main(["env", "--json"]) == 0
    data = capsys.readouterr().out
    assert json.loads(data)["kaggle"] == "KAGGLE_API_TOKEN"
    assert TOKEN not in shown + data


# kagglehub itself.


@needs_kagglehub
@pytest.mark.parametrize("credentials", ["token", "login"])
def test_kagglehub_and_this_library_get_the_same_model(
    kaggle: KaggleSite, run_python, tmp_path: Path, credentials: str
) -> None:
    kaggle.page, kaggle.needs = status(403), "login"
    env = {"KAGGLE_API_TOKEN": TOKEN}
    if credentials == "login":
        env = dict(zip(("KAGGLE_USERNAME", "KAGGLE_KEY"), LOGIN, strict=True))
    env |= {"KAGGLEHUB_CACHE": str(tmp_path / "of-kagglehub")}
    code = f"import kagglehub\nprint(kagglehub.model_download({MODEL!r}))"
    theirs = run_python(code, env=env).check().stdout.splitlines()[-1]
    ours = run_python(f"import tfhub_cache as hub\nprint(hub.resolve({PAGE!r}))", env=env).check()
    assert read_files(theirs) == read_files(ours.stdout.strip()) == CONTENT
    kaggle.needs = "consent"
    env["KAGGLEHUB_CACHE"] = str(tmp_path / "another")
    assert NO_CONSENT in run_python(code, env=env).stderr


@needs_kagglehub
def test_a_login_that_kagglehub_was_given_counts_first(
    kaggle: KaggleSite, run_python, tmp_path: Path
) -> None:
    kaggle.page, kaggle.needs = status(403), "login"
    code = f"""
import kagglehub.config
kagglehub.config.set_kaggle_api_token({TOKEN!r})
import tfhub_cache as hub
print(hub.resolve({HANDLE!r}))
"""
    done = run_python(code, env={"KAGGLE_API_TOKEN": "0ld"}).check()
    assert read_files(done.stdout.splitlines()[-1]) == CONTENT


# Notebooks of Kaggle.

ATTACH = "/kaggle-jwt-handler/AttachDatasourceUsingJwtRequest"
RESOLVE = """
import sys
import tfhub_cache as hub
print(hub.resolve(sys.argv[1]))
"""


@pytest.fixture
def notebook(
    host: Host, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """What a process has in a notebook, in which the model is attached and there is no internet."""
    slug = "nnlm/tensorflow2/en-dim128/2"
    (tmp_path / "input" / slug).mkdir(parents=True)
    (tmp_path / "input" / slug / "saved_model.pb").write_bytes(b"attached")
    result = {"wasSuccessful": True, "result": {"mountSlug": slug, "versionNumber": 2}}
    host.route(ATTACH, status(200, {"Content-Type": "application/json"}, json.dumps(result)))
    return {
        "KAGGLE_KERNEL_RUN_TYPE": "Interactive",
        "KAGGLE_DATA_PROXY_URL": host.url,
        "KAGGLE_DATA_PROXY_TOKEN": "t0",
        "KAGGLE_USER_SECRETS_TOKEN": "t1",
        "KAGGLE_CACHE_MOUNT_FOLDER": str(tmp_path / "input"),
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }


@needs_kagglehub
@pytest.mark.parametrize(
    "handle",
    [
        HANDLE,
        PAGE,
        f"{LONG.replace('www.', '')}/versions/2",
    ],
)
def test_a_model_that_is_attached_to_a_notebook_is_used_from_there(
    host: Host, notebook: dict[str, str], tmp_path: Path, run_python, handle: str
) -> None:
    done = run_python(RESOLVE, args=[handle], env=notebook).check()
    path = done.stdout.splitlines()[-1]
    assert path == str(tmp_path / "input/nnlm/tensorflow2/en-dim128/2")
    assert [request.path for request in host.requests] == [ATTACH]


@needs_kagglehub
def test_a_model_in_the_cache_comes_before_one_that_is_attached(
    host: Host, notebook: dict[str, str], kaggle: KaggleSite, run_python
) -> None:
    path = hub.resolve(HANDLE)
    done = run_python(RESOLVE, args=[HANDLE], env=notebook).check()
    assert done.stdout == f"{path}\n"
    assert host.requests == []


@needs_kagglehub
@pytest.mark.parametrize(
    "setting", ["TFHUB_OFFLINE=1", "TFHUB_MIRROR=https://127.0.0.1:9", "TFHUB_LOCKFILE=LOCK"]
)
def test_what_forbids_or_pins_a_download_counts_in_a_notebook(
    host: Host,
    notebook: dict[str, str],
    tmp_path: Path,
    kaggle: KaggleSite,
    run_python,
    setting: str,
) -> None:
    lock = tmp_path / "models.lock"
    hub.cache.lock([HANDLE], lock)
    hub.cache.remove([HANDLE])
    name, _, value = setting.partition("=")
    env = {**notebook, name: value.replace("LOCK", str(lock))}
    done = run_python(RESOLVE, args=[HANDLE], env=env)
    assert (OfflineError.__name__ in done.stderr) == (name == "TFHUB_OFFLINE")
    assert done.returncode == 1
    assert host.requests == []


@needs_kagglehub
def test_a_model_that_can_not_be_attached_is_downloaded(
    host: Host, notebook: dict[str, str], kaggle: KaggleSite, run_python
) -> None:
    host.route(ATTACH, status(403))
    done = run_python(RESOLVE, args=[HANDLE], env={**notebook, **kaggle.env}).check()
    assert read_files(done.stdout.splitlines()[-1]) == CONTENT
    assert "kagglehub can't attach" in done.stderr


@needs_kagglehub
@pytest.mark.parametrize("handle", [HANDLE, "https://tfhub.dev/google/nnlm-en-dim128/2"])
def test_without_internet_the_error_says_what_to_attach(
    host: Host, notebook: dict[str, str], run_python, handle: str
) -> None:
    host.route(ATTACH, status(403))
    said = run_python(RESOLVE, args=[handle], env=notebook).stderr
    attach = "this model" if "kaggle" in handle else f"the model of Kaggle to which {handle} leads"
    assert f"attach {attach}" in said


@needs_kagglehub
def test_an_attached_model_is_used_by_programs_that_import_tensorflow_hub(
    notebook: dict[str, str], tmp_path: Path, run_python
) -> None:
    code = f"""
import tfhub_cache
tfhub_cache.install_as_tensorflow_hub()
import tensorflow_hub as hub
print(hub.resolve({HANDLE!r}))
"""
    done = run_python(code, env=notebook).check()
    assert done.stdout.splitlines()[-1] == str(tmp_path / "input/nnlm/tensorflow2/en-dim128/2")
