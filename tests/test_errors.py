"""Errors: what failed, why, and what to do are kept apart, and put together when they are shown."""

from __future__ import annotations

import pickle

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
