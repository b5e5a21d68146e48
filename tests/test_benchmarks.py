"""The parts of the benchmarks: their server, their processes, their report. Nothing is measured."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import IncompleteRead
from pathlib import Path

import pytest
from models import fake_model, pack_files

from benchmarks import contestants, report
from benchmarks.results import CURL, HUB, OURS, Row, Target, shown
from benchmarks.static_server import StaticServer
from benchmarks.steps import Step

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks need Linux"),
    pytest.mark.once,
]

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def served(tmp_path: Path) -> Iterator[StaticServer]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file").write_bytes(CONTENT)
    (folder / "model.tar.gz").write_bytes(pack_files(fake_model(size=2_000_000)))
    with StaticServer(folder) as server:
        yield server


def ask(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(
        url, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, dict(answer.headers), answer.read()


def has_sent(server: StaticServer, size: int) -> bool:
    """Whether so many bytes were sent; they are counted just after a client may have got them."""
    deadline = time.monotonic() + 10
    while server.sent != size and time.monotonic() < deadline:
        time.sleep(0.01)
    return server.sent == size


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, len(CONTENT)),
        ("bytes=-100", len(CONTENT) - 100, len(CONTENT)),
        (f"bytes=5-{2 * len(CONTENT)}", 5, len(CONTENT)),
    ],
)
def test_the_server_sends_a_range(served: StaticServer, wanted: str, start: int, end: int) -> None:
    status, headers, body = ask(f"{served.url}/file?a=b", Range=wanted)
    assert status == 206
    assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert body == CONTENT[start:end]
    assert has_sent(served, end - start)


def test_the_server_sends_everything_when_the_file_is_another(served: StaticServer) -> None:
    _, headers, _ = ask(f"{served.url}/file")
    same, _, _ = ask(f"{served.url}/file", Range="bytes=9-", If_Range=headers["ETag"])
    other, _, body = ask(f"{served.url}/file", Range="bytes=9-", If_Range='"another"')
    assert (same, other, body) == (206, 200, CONTENT)


def test_the_server_refuses_a_range_behind_the_end(served: StaticServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as raised:
        ask(f"{served.url}/file", Range=f"bytes={len(CONTENT)}-")
    assert raised.value.code == 416
    assert raised.value.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


def test_the_server_cuts_once_and_counts(served: StaticServer) -> None:
    served.at(len(CONTENT) // 2, served.cut)
    with pytest.raises((IncompleteRead, ConnectionError)):
        ask(f"{served.url}/file")
    before = served.sent
    assert len(CONTENT) // 2 <= before < len(CONTENT)
    assert ask(f"{served.url}/file")[2] == CONTENT
    assert has_sent(served, before + len(CONTENT))


def test_a_limited_server_sends_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    with StaticServer(tmp_path, rate=20_000_000) as server:
        assert ask(f"{server.url}/file")[2] == CONTENT


def test_a_process_resolves_and_reports_how_it_went(served: StaticServer, tmp_path: Path) -> None:
    handle = f"{served.url}/model.tar.gz"
    done = contestants.resolve(OURS, tmp_path, handle, f"{handle}?another")
    assert len(done.seconds) == 2
    assert sum(done.seconds) < done.process_seconds
    assert done.growth > 0
    assert len(served.answers) == 2
    seconds, imported, peak = contestants.start_new(OURS, tmp_path, handle)
    assert imported < seconds
    assert peak > 1_000_000
    assert len(served.answers) == 2  # it was in the cache


def test_a_process_that_can_not_resolve_says_why(served: StaticServer, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="404"):
        contestants.resolve(OURS, tmp_path, f"{served.url}/nothing.tar.gz")


def test_a_process_is_killed_in_the_middle(served: StaticServer, tmp_path: Path) -> None:
    handle = f"{served.url}/model.tar.gz"
    with contestants.Worker(OURS, tmp_path, handle) as worker:
        worker.wait_until_ready()
        served.at(1_000_000, lambda: os.kill(worker.pid, signal.SIGKILL))
        worker.go()
        worker.wait(10)
        with pytest.raises(RuntimeError):
            worker.result()
    assert not list(tmp_path.glob("*.manifest.json"))


def test_a_target_is_a_limit_or_a_ratio_of_medians() -> None:
    row = Row("key", "work", "s", Target(most=2.0, of={HUB: 0.5, CURL: 1.0}))
    assert row.is_reached() is None
    for contestant, values in {HUB: [3.0, 9.0, 4.0], CURL: [2.5], OURS: [7.0, 1.0, 2.0]}.items():
        for value in values:
            row.add(contestant, value)
    assert row.is_reached()
    row.values[CURL] = [1.9]
    assert not row.is_reached()


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.345, "s", "12.3 s"),
        (0.0451, "s", "45.1 ms"),
        (22.13e-6, "s", "22.1 µs"),
        (617e6, "B", "617 MB"),
        (0.0312, "share", "3.12 %"),
    ],
)
def test_figures_have_the_unit_that_people_use(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_a_report_is_the_same_after_reading_its_raw_figures() -> None:
    row = Row("key", "the work", "s", Target(of={HUB: 0.45}), {HUB: [2.0, 3.0], OURS: [1.0, 1.5]})
    failed = Row("cut", "a cut", "share", Target(most=0.12), {OURS: [0.5]}, {HUB: "fails"})
    results = report.Results(
        rounds=2,
        vocabulary=30,
        names={HUB: "tensorflow_hub 0", CURL: "curl | tar", OURS: "tfhub_cache"},
        rows=[row, failed],
        steps=[Step("stat()", 6, 5e-6)],
        machine={"cores": "2"},
        versions={"Python": "3"},
        commit={"commit": "abc", "date": "2030-01-01"},
    )
    page = report.page(results)
    assert "| the work | 2.5 s (2 to 3) |  | 1.25 s (1 to 1.5) | 0.50 | at most 0.45" in page
    assert r"| tensorflow_hub 0 | curl \| tar | tfhub_cache |" in page
    assert "| a cut | fails |  | 50 % |  | at most 12 % | **no** |" in page
    assert "| stat() | 6 | 5 µs |" in page
    assert "$" not in page
    assert report.page(report.Results.from_json(results.to_json())) == page
