"""The order in which types travel, and what differs between snapshots."""

from septum.model.snapshot import Resource, Snapshot
from septum.xds.order import NOTHING, Differ, difference, make_before_break
from septum.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE, SCOPE, SECRET


def test_what_is_referred_to_goes_before_what_refers_to_it():
    assert make_before_break({SCOPE, ROUTE, LISTENER, SECRET, ENDPOINT, CLUSTER, "x"}) == [
        CLUSTER,
        ENDPOINT,
        SECRET,
        ROUTE,
        LISTENER,
        SCOPE,
        "x",
    ]


OLD = Snapshot("1", {CLUSTER: {n: Resource(n, "1", b"") for n in "abc"}, ROUTE: {"r": Resource("r", "1", b"")}})
NEW = Snapshot("2", {CLUSTER: {n: Resource(n, v, b"") for n, v in (("a", "1"), ("b", "2"), ("d", "1"))}})


def test_a_difference_names_what_changed_and_what_is_gone():
    step = difference(OLD, NEW)
    assert step.changed == ((CLUSTER, "b"), (CLUSTER, "d"))
    assert step.gone == ((CLUSTER, "c"), (ROUTE, "r"))
    assert difference(NOTHING, OLD).changed == ((CLUSTER, "a"), (CLUSTER, "b"), (CLUSTER, "c"), (ROUTE, "r"))


def test_the_remembered_difference_is_the_same_and_made_once_for_the_same_step():
    differ = Differ()
    assert differ(OLD, NEW) == difference(OLD, NEW)
    assert differ(OLD, NEW) is differ(OLD, NEW)
    assert differ(NEW, OLD) == difference(NEW, OLD)
