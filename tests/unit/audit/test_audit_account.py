"""What should have arrived and what did. Grace is one second; `read` is when the log was last read to its end."""

from __future__ import annotations

from septum.audit.account import Account, Counted, Loss


def account() -> Account:
    return Account(1.0, {})


def test_what_arrived_is_not_lost() -> None:
    one = account()
    assert one.receive(0, Counted("r", 5), {"r": 5}, 0) is None
    assert one.receive(2, Counted("r", 5), {"r": 5}, 2) is None
    assert one.lost == 0


def test_what_was_counted_and_is_not_there_after_the_grace_is_lost() -> None:
    one = account()
    one.receive(0, Counted("r", 5), {"r": 3}, 0)
    assert one.receive(2, Counted("r", 5), {"r": 3}, 2) == Loss("r", 5, 3)
    assert one.lost == 2


def test_a_loss_is_told_once() -> None:
    one = account()
    one.receive(0, Counted("r", 5), {"r": 3}, 0)
    one.receive(2, Counted("r", 5), {"r": 3}, 2)
    assert one.receive(4, Counted("r", 5), {"r": 3}, 4) is None


def test_nothing_is_said_before_the_log_was_read_to_its_end() -> None:
    one = account()
    one.receive(0, Counted("r", 5), {}, 0)
    assert one.receive(9, Counted("r", 5), {}, 0.5) is None
    assert one.receive(10, Counted("r", 5), {"r": 5}, 9) is None


def test_while_requests_go_on_a_known_loss_stays() -> None:
    one = account()
    one.receive(0, Counted("r", 5), {"r": 3}, 0)
    one.receive(2, Counted("r", 7), {"r": 4}, 2)
    assert one.receive(4, Counted("r", 20), {"r": 17}, 4) is None
    assert one.lost == 1


def test_a_late_line_takes_a_loss_back_in_quiet() -> None:
    one = account()
    one.receive(0, Counted("r", 5), {"r": 3}, 0)
    one.receive(2, Counted("r", 5), {"r": 3}, 2)
    one.receive(4, Counted("r", 5), {"r": 5}, 4)
    assert one.receive(6, Counted("r", 5), {"r": 5}, 6) == Loss("r", 5, 5)
    assert one.lost == 0


def test_the_last_count_of_a_run_that_ended_is_compared_too() -> None:
    one = account()
    one.receive(0, Counted("r", 5), {"r": 3}, 0)
    assert one.receive(2, Counted("s", 1), {"r": 4, "s": 1}, 2) == Loss("r", 5, 4)
    assert one.receive(4, Counted("s", 1), {"r": 4, "s": 1}, 4) is None
    assert one.lost == 1


def test_losses_of_earlier_lives_are_kept() -> None:
    assert Account(1.0, {"q": 3}).lost == 3
