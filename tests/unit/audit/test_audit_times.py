"""Records of rules that begin and end: what the policy says is asked for the time at which the proxy decided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.decision_log import Always, denied, line, policy
from septum.audit.explain import Explainer
from septum.audit.line import Line, read_line
from septum.audit.parse import Recorder
from septum.model.claims import Equals, When
from septum.model.policy import Policy
from septum.model.record import Record
from septum.model.window import Window

BEGIN, END = 1_764_000_000, 1_764_003_600
OVER = "time: the rule ended at 2025-11-24T17:00:00Z"
NOT_YET = "time: the rule begins at 2025-11-24T16:00:00Z"
DISAGREES = "septum: decide says deny, "


def granted(window: Window = Window(BEGIN, END), when: When | None = None) -> Policy:  # noqa: B008 - frozen
    known = policy()
    return replace(known, rules=tuple(replace(rule, window=window, when=when) for rule in known.rules))


def record(recorder: Recorder, raw: bytes) -> Record:
    read = read_line(raw.rstrip(b"\n"))
    assert isinstance(read, Line), read
    return recorder.record(read, "n1")


def recorder(known: Policy) -> Recorder:
    return Recorder("shop.test", Explainer(Always(known)))


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (f"{BEGIN}.000000", ""),
        (f"{END - 1}.999999", ""),
        (f"{END}.000000", DISAGREES + OVER),
        (f"{BEGIN - 1}.999999", DISAGREES + NOT_YET),
    ],
)
def test_an_allow_is_one_to_the_microsecond(time: str, reason: str) -> None:
    got = record(recorder(granted()), line(t=time))
    assert (got.rule, got.reason) == ("customers-orders", reason)


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (f"{END}.000000", OVER),
        (f"{BEGIN - 1}.999999", NOT_YET),
        (f"{END - 1}.999999", "septum: decide says allow by customers-orders"),
    ],
)
def test_a_denial_says_that_the_rule_is_over_or_yet_to_begin(time: str, reason: str) -> None:
    assert record(recorder(granted()), denied(method="GET", t=time)).reason == reason


def test_what_is_known_of_one_time_is_not_said_of_another() -> None:
    """The same request, over and over, with one recorder, whose answers are kept."""
    one = recorder(granted())
    times = (BEGIN - 1, BEGIN, END, BEGIN - 0.5, END + 1000, BEGIN - 1000)
    reasons = [record(one, denied(method="GET", t=f"{time:.6f}")).reason for time in times]
    assert reasons == [
        NOT_YET, "septum: decide says allow by customers-orders", OVER, NOT_YET, OVER, NOT_YET,
    ]  # fmt: skip


class Counting(Explainer):
    """Counts the answers that it had to find."""

    def kept(self) -> int:
        return len(self._explained._entries)


def test_answers_are_kept_once_a_span_and_not_once_a_time() -> None:
    for known, most in ((policy(), 1), (granted(), 3)):
        explainer = Counting(Always(known))
        one = Recorder("shop.test", explainer)
        for time in range(BEGIN - 100, END + 100, 50):
            record(one, denied(method="PUT", t=f"{time}.5"))
        assert explainer.kept() == most


def test_of_a_grant_that_asks_for_a_token_the_time_is_said_first() -> None:
    one = recorder(granted(when=When((("iss", Equals("https://login.test")), ("role", Equals("x"))))))
    of_token = {"method": "GET", "iss": "https://login.test"}
    assert record(one, denied(t=f"{END}.0", **of_token)).reason == OVER
    in_time = record(one, denied(t=f"{BEGIN}.0", **of_token)).reason
    assert in_time == "token: it does not have what the rule asks of `role`"
