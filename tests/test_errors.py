"""Errors: what failed, why, and what to do are kept apart, and put together when they are shown."""

from __future__ import annotations

import logging
import pickle
import traceback
from pathlib import Path

import models
import pytest
from absl import logging as absl_logging
from servers import Host, status

import tfhub_cache as hub
from tfhub_cache.errors import DownloadError


def error() -> DownloadError:
    return DownloadError(
        "Could not download https://example.com/m/1",
        cause="the server answered 404 Not\nFound",
        advice="Check its page in a browser.",
        handle="https://example.com/m/1",
        status=404,
    )


def test_an_error_is_shown_with_what_failed_why_and_what_to_do() -> None:
    assert str(error()) == (
        "Could not download https://example.com/m/1: the server answered 404 Not\\nFound. "
        "Check its page in a browser."
    )
    assert error().why == "the server answered 404 Not\\nFound. Check its page in a browser."


def test_what_stands_before_an_error_is_shown_before_it() -> None:
    raised = error()
    raised.before = "The cached model is damaged."
    assert str(raised) == f"The cached model is damaged. {error()}"


def test_an_error_that_is_a_whole_text_is_shown_as_it_is() -> None:
    whole = DownloadError("It failed. Try again.\nIn an hour.")
    assert str(whole) == whole.why == "It failed. Try again.\nIn an hour."


def test_an_error_keeps_its_parts_on_the_way_through_another_process() -> None:
    copy = pickle.loads(pickle.dumps(error()))
    assert str(copy) == str(error())
    assert (copy.cause, copy.handle, copy.status) == (error().cause, error().handle, 404)


@pytest.mark.parametrize("trouble", ["403", "404", "refused", "damaged", "unsafe", "a file"])
def test_the_stack_above_an_error_is_that_of_the_caller_with_one_cause_at_most(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, impatient, trouble: str
) -> None:
    if trouble == "a file":
        (cache_dir.parent / "file").write_text("")
        monkeypatch.setenv("TFHUB_CACHE_DIR", str(cache_dir.parent / "file" / "cache"))
    archive = bytearray(models.pack_files({"../a" if trouble == "unsafe" else "a": b"a" * 1000}))
    archive[50] ^= trouble == "damaged"
    served = status(int(trouble)) if trouble.isdigit() else bytes(archive)
    handle = host.publish("/m/1", served)
    if trouble == "refused":
        host.close()
    for resolve in hub.resolve, hub.cache.refresh:
        with pytest.raises((OSError, ValueError)) as error:
            resolve(handle)
        lines = "".join(traceback.format_exception(error.value)).splitlines()
        assert sum("another exception" in line or "direct cause" in line for line in lines) <= 1
        assert len(lines) <= 20
        assert lines[-1].startswith("tfhub_cache.errors.")


def test_the_stack_of_an_error_is_in_the_log_for_those_who_debug(
    caplog: pytest.LogCaptureFixture, log
) -> None:
    absl_logging.set_verbosity(absl_logging.DEBUG)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(OSError, match="does not exist"):
        hub.resolve("/no/such/model")
    assert "in __call__" in caplog.text
    assert "paths.py" in caplog.text
