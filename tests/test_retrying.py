"""How often something is tried again, and when."""

from hypothesis import given
from hypothesis import strategies as st

from tfhub_cache.retrying import Policy

seconds = st.floats(0.01, 100)


@given(st.integers(1, 10), seconds, seconds)
def test_pauses_double_up_to_the_longest_and_end_with_the_attempts(
    attempts: int, first: float, longest: float
) -> None:
    policy = Policy(attempts, first, longest)
    for attempt in range(1, attempts):
        pause = policy.pause_after(attempt)
        whole = min(first * 2 ** (attempt - 1), longest)
        assert pause is not None
        assert whole / 2 <= pause <= whole
    assert policy.pause_after(attempts) is None


def test_those_who_failed_together_do_not_try_again_together() -> None:
    policy = Policy(attempts=5, first_pause=1.0, longest_pause=1.0)
    assert len({policy.pause_after(1) for _ in range(100)}) > 50
