"""What a candidate would decide otherwise, counted from the record."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from fakes.decision_log import denied, line, recorder
from septum.audit.apart import Comparison, Difference, compare
from septum.audit.line import Line, read_line
from septum.audit.parcel import Position
from septum.audit.schema import WrongVersion
from septum.audit.store import Store
from septum.audit.traffic import collapsed
from septum.model.record import Record

ORDERS = ("storefront", "orders")


def record(raw: bytes) -> Record:
    read = read_line(raw)
    assert isinstance(read, Line)
    return recorder().record(read, "n1")


def stored(directory: Path, *lines: bytes) -> Path:
    """A record file with these lines."""
    store = Store(directory / "d.db")
    store.write("n1", [record(raw) for raw in lines], Position(), {})
    store.close()
    return directory / "d.db"


def test_calls_of_one_kind_fall_together(tmp_path: Path) -> None:
    path = stored(
        tmp_path,
        line(t="10.0", path="/orders/1", sp="septum.deny", cv="new"),
        line(t="12.0", path="/orders/2", sp="septum.deny", cv="new"),
        line(t="13.0", path="/orders/3", sp="wide", cv="new"),
        denied(t="14.0", method="POST", path="/orders", sp="wide", cv="new"),
        denied(t="15.0", method="POST", path="/refunds", sp="septum.deny", cv="new"),
        line(t="16.0", mode="observe", ep="septum.observe", path="/x", sp="wide", cv="new"),
    )
    assert compare(path) == Comparison(
        "new",
        first=10.0,
        last=16.0,
        agreed=2,
        newly_denied=(
            Difference(*ORDERS, "GET /orders/{id}", "enforce", "allow", "customers-orders", "deny", "", 2, 12.0),
        ),
        newly_allowed=(
            Difference(*ORDERS, "GET /x", "observe", "deny", "", "allow", "wide", 1, 16.0),
            Difference(*ORDERS, "POST /orders", "enforce", "deny", "", "allow", "wide", 1, 14.0),
        ),
    )


def test_only_one_candidate_is_compared_and_only_from_a_time_on(tmp_path: Path) -> None:
    path = stored(
        tmp_path,
        line(t="10.0", sp="septum.deny", cv="old"),
        line(t="20.0", sp="septum.deny", cv="new"),
        line(t="30.0", sp="customers-orders", cv="new"),
        line(t="40.0"),
    )
    assert (compare(path).version, compare(path).agreed, compare(path).apart) == ("new", 1, 1)
    assert compare(path, since=25.0).apart == 0
    assert (compare(path, version="old").apart, compare(path, version="old").last) == (1, 10.0)
    assert compare(path, version="o") == compare(path, version="old")
    assert compare(path, version="never") == Comparison("never")


def test_a_call_that_lasts_is_one_call(tmp_path: Path) -> None:
    lasting = {"sp": "septum.deny", "cv": "new", "id": "a", "t": "10.0"}
    path = stored(
        tmp_path,
        line(type="DownstreamPeriodic", **lasting),
        line(type="DownstreamEnd", **lasting),
        line(type="DownstreamPeriodic", **(lasting | {"id": "b", "t": "11.0"})),
    )
    (difference,) = compare(path).newly_denied
    assert (difference.calls, compare(path).agreed) == (2, 0)


def test_without_a_candidate_there_is_nothing(tmp_path: Path) -> None:
    assert compare(tmp_path / "none.db") == Comparison()
    assert compare(stored(tmp_path, line())) == Comparison()


def test_a_file_of_another_version_is_said(tmp_path: Path) -> None:
    path = stored(tmp_path, line())
    store = Store(path)
    store.connection.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(WrongVersion):
        compare(path)


def test_it_counts_what_is_there(tmp_path: Path) -> None:
    choose, lines = random.Random(3), []
    for number in range(400):
        made = choose.choice((line, denied))
        path = f"/{choose.choice(('orders', 'x'))}/{choose.randrange(3)}"
        said = choose.choice(("wide", "septum.deny"))
        lines.append(made(t=f"{number}.0", id=str(number), path=path, method="GET", sp=said, cv="new"))
    records = [record(raw) for raw in lines]
    wanted = Counter((r.would_be, r.candidate, collapsed(r)) for r in records if r.candidate != r.would_be)
    found = compare(stored(tmp_path, *lines))
    differences = (*found.newly_denied, *found.newly_allowed)
    assert Counter({(d.policy, d.candidate, d.operation): d.calls for d in differences}) == wanted
    assert found.agreed + found.apart == len(records)
