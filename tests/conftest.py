"""What all tests share: servers, models, child processes, and a clean environment."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import models
import pytest
import trustme
from filelock import FileLock
from processes import Finished
from servers import Host, Proxy, bucket_server, is_loopback
from surroundings import settle_environment, settle_process


def pytest_configure(config: pytest.Config) -> None:
    settle_process()
    hypothesis.settings.register_profile("at any speed", deadline=None)
    hypothesis.settings.load_profile("at any speed")
    config.addinivalue_line("markers", "tensorflow: needs TensorFlow; skipped where there is none")
    config.addinivalue_line("markers", "once: runs on the default interpreter only")
    config.addinivalue_line("markers", "engine: needs an engine, which `make engines` installs")
    config.addinivalue_line("markers", "libraries: depends on libraries rather than on Python")
    # Read by google-auth when it is imported: there is no machine of Google's to ask.
    os.environ["NO_GCE_CHECK"] = "true"
    # Read by TensorFlow's C++ part when it is loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are processors, as many tests wait for a timeout or for a process."""
    return (os.cpu_count() or 1) + 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        for item in items:
            if "tensorflow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="TensorFlow is not installed"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measures no coverage in processes that import TensorFlow, which would take twice as long.

    But for the layer's, as the layer is used in no others.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        if "tensorflow" in item.keywords and item.path.parent.name != "keras_layer":
            for name in "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG":
                monkeypatch.delenv(name, raising=False)
        return (yield)


# The environment of a test: none of the machine's settings, and no network.


@pytest.fixture(scope="session", autouse=True)
def _clean_environment_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For the fixtures that live longer than a test."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        settle_environment(monkeypatch, tmp_path_factory.mktemp("home"))
        yield


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This test's home folder, empty: there is no ~/.netrc unless the test writes one."""
    folder = tmp_path_factory.mktemp("home")
    settle_environment(monkeypatch, folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _loopback_only(_clean_environment_of_session: None) -> Iterator[None]:
    """Fails, with an error that can't be taken for a broken network, what leaves this machine."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    getaddrinfo = socket.getaddrinfo

    def check(address: Any) -> None:
        if isinstance(address, tuple) and not is_loopback(_text(address[0])):
            raise RuntimeError(f"a test connects to {address[0]}, which is not on this machine")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        check(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        check(address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = _text(host)
        if name.endswith(".invalid"):  # RFC 6761: names for which no name server is asked
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if not is_loopback(name):
            raise RuntimeError(f"a test looks up {name}, which is not on this machine")
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(socket.socket, "connect", guarded_connect)
        monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield


def _text(host: Any) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else (host or "")


@pytest.fixture
def cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache of this test, as TFHUB_CACHE_DIR; the folder is not there yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged, at INFO and above."""
    from absl import logging as absl_logging

    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.INFO)
    caplog.set_level(logging.INFO)
    yield caplog
    absl_logging.set_verbosity(before)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Lets the pauses between attempts pass at once; how long they would have been."""
    from tfhub_cache.retrying import pause_after
    from tfhub_cache.transfer import connection

    sleep, asked = time.sleep, []

    def pass_at_once(seconds: float) -> None:
        caller = sys._getframe(1).f_globals["__name__"].partition(".")[0]
        if caller == "tfhub_cache":
            asked.append(seconds)
            seconds = min(seconds, 0.001)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", pass_at_once)
    # A connection waits for an event, which comes if the download ends.
    at_once = lambda failures: 0.0 if pause_after(failures) else None  # noqa: E731
    monkeypatch.setattr(connection, "pause_after", at_once)
    return asked


# Servers.


@pytest.fixture
def host() -> Iterator[Host]:
    """A host of models over plain HTTP."""
    with Host() as server:
        yield server


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    """A certificate authority that is not trusted by default; see `ca_pem`."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_pem(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file for REQUESTS_CA_BUNDLE, SSL_CERT_FILE or CURL_CA_BUNDLE."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def tls_host(ca: trustme.CA) -> Iterator[Host]:
    """A host of models over TLS, with a certificate of `ca`."""
    with Host(tls=ca) as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A forward proxy."""
    with Proxy() as server:
        yield server


@pytest.fixture
def bucket() -> Iterator[str]:
    """The endpoint of Google Cloud Storage with one bucket, `test-bucket`."""
    with bucket_server("test-bucket") as endpoint:
        yield endpoint


# Models: made once for all workers, and only when a test asks.


@pytest.fixture(scope="session")
def built(
    tmp_path_factory: pytest.TempPathFactory, _clean_environment_of_session: None
) -> Callable[[str, Callable[[Path], object]], Path]:
    """Makes a folder by name, once for all workers of pytest-xdist."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # each worker has a folder of its own in there

    def build(name: str, make: Callable[[Path], object]) -> Path:
        folder = root / "models" / name
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                unfinished = folder.with_name(f"{name}.unfinished")
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def text_embedding(built: Any) -> Path:
    """A TF2 SavedModel; `models.embedding(sentence)` is what it computes. Not to be changed."""
    return built("text_embedding", models.text_embedding)


@pytest.fixture(scope="session")
def keras_export(built: Any) -> Path:
    """What Keras 3 exports. Not to be changed."""
    return built("keras_export", models.keras_export)


@pytest.fixture(scope="session")
def tf1_hub_module(built: Any) -> Path:
    """A module in the TF1 Hub format. Not to be changed."""
    return built("tf1_hub_module", models.tf1_hub_module)


@pytest.fixture(scope="session")
def large_model(built: Any) -> Path:
    """A SavedModel of 100 MB. Not to be changed."""
    return built("large", lambda folder: models.large(folder, 100))


@pytest.fixture(scope="session")
def large_archive(built: Any, large_model: Path) -> Path:
    """The same as .tar.gz: a file, since packing takes a while."""

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "model.tar.gz").write_bytes(models.pack(large_model))

    return built("large_archive", make) / "model.tar.gz"


@pytest.fixture(scope="session")
def archive_of(built: Any) -> Callable[[Path], bytes]:
    """Packs a folder as .tar.gz with `./` and folder members, and remembers it."""
    known: dict[Path, bytes] = {}

    def pack(folder: Path) -> bytes:
        if folder not in known:
            known[folder] = models.pack(folder)
        return known[folder]

    return pack


# Child processes.


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a file of Python code below this test's folder."""

    def write(name: str, code: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        return path

    return write


@pytest.fixture
def run_python() -> Callable[..., Finished]:
    """Runs Python code, or a file, in a process of its own.

    `run_python(code_or_path, args=[...], env={"NAME": "value", "OTHER": None}, cwd=...)`
    inherits this test's environment; None removes a variable.
    """

    def run(
        code_or_path: str | Path,
        *,
        args: Sequence[str | Path] = (),
        env: Mapping[str, str | Path | None] | None = None,
        cwd: Path | None = None,
        timeout: float = 120,
        stdin: str = "",
    ) -> Finished:
        changes = env or {}
        environment = {k: v for k, v in os.environ.items() if k not in changes}
        environment |= {k: str(v) for k, v in changes.items() if v is not None}
        program = [code_or_path] if isinstance(code_or_path, Path) else ["-c", code_or_path]
        done = subprocess.run(
            [sys.executable, *map(str, program), *map(str, args)],
            env=environment,
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
        return Finished(done.stdout, done.stderr, done.returncode)

    return run
