"""How often something is tried again, and when."""

from tfhub_cache.retrying import pause_after


def test_pauses_double_and_end_with_the_attempts() -> None:
    for attempt, whole in enumerate([0.25, 0.5, 1.0, 2.0], start=1):
        pause = pause_after(attempt)
        assert pause is not None
        assert whole / 2 <= pause <= whole
    assert pause_after(5) is None
    assert pause_after(2, 3) is not None
    assert pause_after(3, 3) is None


def test_those_who_failed_together_do_not_try_again_together() -> None:
    assert len({pause_after(1) for _ in range(100)}) > 50
