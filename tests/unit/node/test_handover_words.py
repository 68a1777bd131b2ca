"""What people read of a hand-over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from septum.node import handover
from septum.node.binary import MissingEnvoyError
from septum.node.handover import Restarted, Upgraded
from septum.rpc.local import NotRunningError

DONE = Upgraded(7, 8, "1.40.0", "1.41.0", 0.317, 12.34, 0)


def test_what_was_handed_over_and_what_was_left() -> None:
    assert str(DONE) == (
        "Envoy 7 handed over to 8 (1.40.0 → 1.41.0) in 0.32 s; the old one finished its calls in 12.3 s, "
        "with no connection left"
    )
    assert "→" not in str(replace(DONE, new_version="1.40.0"))
    assert str(replace(DONE, left=1)).endswith("and 1 connection was closed that was still open")
    assert str(replace(DONE, left=3)).endswith("and 3 connections were closed that were still open")
    assert str(replace(DONE, left=None)).endswith("and could not be asked what it had left")


def test_a_restart_says_what_it_cost() -> None:
    assert str(Restarted(7, 8, 0.2)) == "Envoy 7 was ended and 8 started after 0.20 s; what was open was cut"


def test_a_binary_that_is_not_there_is_known_before_anybody_is_asked(tmp_path: Path) -> None:
    for ask in (handover.upgrade, handover.restart):
        with pytest.raises(MissingEnvoyError, match="no Envoy to run at"):
            ask(tmp_path, str(tmp_path / "no"))


def test_a_node_that_does_not_run_is_said(tmp_path: Path) -> None:
    for ask in (handover.upgrade, handover.restart, handover.ps):
        with pytest.raises(NotRunningError, match=r"nobody answers on .*/node.sock"):
            ask(tmp_path)
