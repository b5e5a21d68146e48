"""How many connections a transfer has and who brings what: the rules, without a network."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from tfhub_cache.transfer.pace import Pace
from tfhub_cache.transfer.plan import Plan

# How many connections.


def paces(rate: Callable[[int, float], float], most: int = 8, seconds: float = 3.0) -> list[int]:
    """The number of connections over time, if `rate(connections, now)` is what they bring."""
    pace, received, now, waited = Pace(most, 0.0), 0.0, 0.0, 0.0
    numbers = [pace.wanted]
    while now < seconds:
        now += 0.05
        waited += 0.05
        received += 0.05 * rate(pace.wanted, now)
        numbers.append(pace.consider(now, int(received), waited, pace.wanted))
    return [number for number, _ in itertools.groupby(numbers)]


def test_connections_double_as_long_as_each_brings_as_much() -> None:
    assert paces(lambda connections, now: connections * 20e6) == [1, 2, 4, 8]


def test_there_are_never_more_connections_than_allowed() -> None:
    assert paces(lambda connections, now: connections * 20e6, most=3) == [1, 2, 3]


def test_connections_that_do_not_pay_are_given_up() -> None:
    assert paces(lambda connections, now: 20e6, seconds=1.0) == [1, 2, 1]


def test_connections_that_did_not_pay_are_tried_again_ever_more_rarely() -> None:
    numbers = paces(lambda connections, now: 20e6, seconds=30.0)
    assert numbers.count(2) == 5  # after 1, 2, 4, 8 and 16 seconds


def test_connections_are_added_when_it_pays_later() -> None:
    assert (
        paces(lambda connections, now: 20e6 * (connections if now > 2 else 1), seconds=10)[-1] == 8
    )


def test_connections_are_not_added_where_unpacking_is_what_is_slow() -> None:
    pace = Pace(8, 0.0)
    for step in range(1, 100):
        assert pace.consider(step * 0.05, step * 10_000_000, 0.0, 1) == 1


def test_connections_that_are_still_being_made_are_not_judged() -> None:
    pace = Pace(8, 0.0)
    assert pace.consider(0.2, 4_000_000, 0.2, 1) == 2
    for step in range(5, 40):  # up to two seconds: a far host
        assert pace.consider(step * 0.05, step * 1_000_000, step * 0.05, 1) == 2


# Who brings what.


def bring_all(plan: Plan[str], who: str, now: float, connections: int = 1) -> list[int]:
    """Lets a connection bring all it gets; where its pieces began."""
    starts: list[int] = []
    at = None
    while (start := plan.take(who, at, connections, now)) is not None:
        piece = plan.piece(who)
        assert piece is not None
        plan.brought(who, piece[1] - piece[0], now + 0.1)
        starts.append(start)
        at = piece[1]
        now += 0.1
    return starts


def test_one_connection_brings_all_that_is_missing_in_order() -> None:
    plan: Plan[str] = Plan([(0, 10_000_000), (20_000_000, 90_000_000)], None)
    starts = bring_all(plan, "one", 0.0)
    assert starts == sorted(starts)
    assert plan.left() == 0


def test_a_new_connection_begins_ahead_of_what_is_needed_next() -> None:
    plan: Plan[str] = Plan([(0, 100_000_000)], None)
    plan.take("old", None, 1, 0.0)
    plan.brought("old", 1_000_000, 0.1)
    start = plan.take("new", None, 2, 0.2)
    _, stop = plan.piece("old") or (0, 0)
    assert start is not None
    assert start >= stop + (1 << 20)
    assert plan.first() == stop  # which is left for whoever has shown that it brings something


def test_what_a_new_connection_never_brought_is_taken_over_by_a_stream_that_gets_there() -> None:
    plan: Plan[str] = Plan([(0, 30_000_000)], None)
    plan.take("old", None, 1, 0.0)
    plan.brought("old", 1, 0.1)
    assert plan.take("hangs", None, 2, 0.2) is not None
    at, stop = plan.piece("old") or (0, 0)
    plan.brought("old", stop - at, 0.3)
    taken = []
    while (start := plan.take("old", stop, 2, 0.4)) is not None:
        assert start == stop  # the stream just goes on
        taken.append(start)
        _, stop = plan.piece("old") or (0, 0)
        plan.brought("old", stop - start, 0.5)
    assert stop == 30_000_000
    assert plan.piece("hangs") is None


def test_a_slow_connection_loses_its_piece_and_only_if_others_are_much_faster() -> None:
    plan: Plan[str] = Plan([(0, 60_000_000)], None)
    plan.take("fast", None, 1, 0.0)
    at, stop = plan.piece("fast") or (0, 0)
    plan.brought("fast", stop - at, 1.0)
    assert plan.take("slow", None, 2, 1.0) is not None
    position, _ = plan.piece("slow") or (0, 0)
    plan.brought("slow", 1000, 1.1)
    assert plan.slow(position + 1000, 2.0) is None  # not yet
    assert plan.slow(position + 1000, 4.0) == "slow"
    assert plan.slow(position + 999, 4.0) is None  # it is not what the reader waits for
    plan.leave("slow")
    assert plan.piece("slow") is None
    assert bring_all(plan, "fast", 5.0)
    assert plan.left() == 0


def test_a_connection_that_waits_for_the_reader_is_not_slow() -> None:
    plan: Plan[str] = Plan([(0, 60_000_000)], None)
    plan.take("one", None, 1, 0.0)
    at, stop = plan.piece("one") or (0, 0)
    plan.brought("one", stop - at, 1.0)
    plan.take("one", stop, 1, 1.0)
    plan.brought("one", 1000, 1.1)
    plan.rest("one", 1.1)
    assert plan.slow(stop + 1000, 9.0) is None
    plan.go_on("one", 9.0)
    assert plan.slow(stop + 1000, 9.5) is None
    assert plan.slow(stop + 1000, 13.0) == "one"


def test_a_connection_that_is_left_alone_begins_with_what_is_needed_next() -> None:
    plan: Plan[str] = Plan([(0, 60_000_000)], None)
    plan.take("old", None, 1, 0.0)
    plan.brought("old", 1_000_000, 0.1)
    plan.take("new", None, 2, 0.2)
    plan.leave("old")
    plan.give_back("new")
    assert plan.take("new", None, 1, 0.3) == 1_000_000


def test_where_all_have_become_slow_nobody_is_sent_away_for_ever() -> None:
    plan: Plan[str] = Plan([(0, 60_000_000)], None)
    plan.take("one", None, 1, 0.0)
    at, stop = plan.piece("one") or (0, 0)
    plan.brought("one", stop - at, 1.0)
    sent_away = 0
    for number in range(20):
        who = f"other {number}"
        start = plan.take(who, None, 1, 10.0 * number)
        plan.brought(who, 1000, 10.0 * number + 1)
        if plan.slow((start or 0) + 1000, 10.0 * number + 9) is None:
            break
        plan.expect_less()
        plan.leave(who)
        sent_away += 1
    assert 1 <= sent_away <= 16
