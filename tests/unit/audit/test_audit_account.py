"""What should have arrived and what did. Grace is one second; `read` is when the log was last read to its end."""

from __future__ import annotations

from collections.abc import Mapping

from septum.audit.account import Account, Loss
from septum.audit.parcel import Sample


def account() -> Account:
    return Account(1.0, {})


def receive(
    one: Account, asked: float, run: str, decisions: int, written: Mapping[str, int], read: float
) -> list[Loss]:
    return one.receive(Sample(run, decisions, asked, read), written)


def test_what_arrived_is_not_lost() -> None:
    one = account()
    assert receive(one, 0, "r", 5, {"r": 5}, 0) == []
    assert receive(one, 2, "r", 5, {"r": 5}, 2) == []
    assert one.lost == 0


def test_what_was_counted_and_is_not_there_after_the_grace_is_lost() -> None:
    one = account()
    receive(one, 0, "r", 5, {"r": 3}, 0)
    assert receive(one, 2, "r", 5, {"r": 3}, 2) == [Loss("r", 5, 3)]
    assert one.lost == 2


def test_a_loss_is_told_once() -> None:
    one = account()
    receive(one, 0, "r", 5, {"r": 3}, 0)
    receive(one, 2, "r", 5, {"r": 3}, 2)
    assert receive(one, 4, "r", 5, {"r": 3}, 4) == []


def test_nothing_is_said_before_the_log_was_read_to_its_end() -> None:
    one = account()
    receive(one, 0, "r", 5, {}, 0)
    assert receive(one, 9, "r", 5, {}, 0.5) == []
    assert receive(one, 10, "r", 5, {"r": 5}, 9) == []


def test_while_requests_go_on_a_known_loss_stays() -> None:
    one = account()
    receive(one, 0, "r", 5, {"r": 3}, 0)
    receive(one, 2, "r", 7, {"r": 4}, 2)
    assert receive(one, 4, "r", 20, {"r": 17}, 4) == []
    assert one.lost == 1


def test_a_late_line_takes_a_loss_back_in_quiet() -> None:
    one = account()
    receive(one, 0, "r", 5, {"r": 3}, 0)
    receive(one, 2, "r", 5, {"r": 3}, 2)
    receive(one, 4, "r", 5, {"r": 5}, 4)
    assert receive(one, 6, "r", 5, {"r": 5}, 6) == [Loss("r", 5, 5)]
    assert one.lost == 0


def test_the_last_count_of_a_run_that_ended_is_compared_too() -> None:
    one = account()
    receive(one, 0, "r", 5, {"r": 3}, 0)
    assert receive(one, 2, "s", 1, {"r": 4, "s": 1}, 2) == [Loss("r", 5, 4)]
    assert receive(one, 4, "s", 1, {"r": 4, "s": 1}, 4) == []
    assert one.lost == 1


def test_losses_of_earlier_lives_are_kept() -> None:
    assert Account(1.0, {"q": 3}).lost == 3


def test_runs_that_overlap_are_compared_each_by_itself() -> None:
    one = account()
    receive(one, 0, "r", 5, {"r": 5}, 0)
    receive(one, 0, "s", 2, {"r": 5, "s": 1}, 0)
    assert receive(one, 2, "r", 6, {"r": 6, "s": 1}, 2) == [Loss("s", 2, 1)]
    assert receive(one, 2, "s", 3, {"r": 6, "s": 2}, 2) == []
    assert receive(one, 4, "s", 3, {"r": 5, "s": 2}, 4) == [Loss("r", 6, 5)]
    assert one.lost == 2


def test_a_clock_that_begins_anew_is_no_reason_to_wait_for_the_old_one() -> None:
    one = account()
    receive(one, 9000, "r", 5, {"r": 5}, 9000)
    receive(one, 3, "s", 5, {"s": 4}, 3)
    assert receive(one, 5, "s", 5, {"s": 4}, 5) == [Loss("s", 5, 4)]
