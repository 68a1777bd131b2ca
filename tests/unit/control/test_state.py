"""What the control plane must not forget."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from septum.control import state as module
from septum.control.state import (
    Baseline,
    End,
    Fate,
    Signature,
    State,
    StateError,
    UnreadableVersion,
    Version,
    baseline_statement,
)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with closing(State(tmp_path / "state.db")) as state:
        yield state


def enforce(state: State, digest: str, now: float = 1.0, **slices: str) -> None:
    state.enforce(Version(0, digest, now, "ada", {"septum.yaml": f"mesh: {digest}\n".encode()}, slices))


def test_nothing_was_enforced_at_first(state: State) -> None:
    assert state.enforced() is None
    assert state.outbound() == {}
    assert state.with_slice("orders", "s", 1.0) is None


def test_the_last_version_is_the_enforced_one(state: State) -> None:
    enforce(state, "a", 5.0)
    enforce(state, "b", 4.0, orders="s1")  # a clock may go back
    assert state.enforced() == Version(2, "b", 4.0, "ada", {"septum.yaml": b"mesh: b\n"}, {"orders": "s1"})


def test_a_version_may_come_again(state: State) -> None:
    for digest in "aba":
        enforce(state, digest)
    version = state.enforced()
    assert version is not None
    assert (version.digest, version.number) == ("a", 3)


def test_everything_is_there_after_a_restart(state: State, tmp_path: Path) -> None:
    enforce(state, "a")
    state.set_outbound("orders", "127.0.0.1:19000")
    with closing(State(tmp_path / "state.db")) as again:
        assert again.enforced() == state.enforced()
        assert again.outbound() == {"orders": "127.0.0.1:19000"}


def test_files_keep_every_character(state: State) -> None:
    content = "mesh: ünïcode 😀\r\n\n".encode()
    state.enforce(Version(0, "a", 1.0, "ada", {"policy/ä.yaml": content}, {}))
    version = state.enforced()
    assert version is not None
    assert version.files == {"policy/ä.yaml": content}


def test_old_versions_are_dropped_and_the_last_ones_kept(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_VERSIONS", 3)
    for number in range(5):
        enforce(state, str(number), float(number), orders=f"s{number}")
    assert [state.with_slice("orders", f"s{number}", 9.0) is not None for number in range(5)] == [False] * 2 + [
        True
    ] * 3


def test_the_way_back_of_a_version_on_trial_is_not_dropped(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_VERSIONS", 3)
    enforce(state, "good")
    for number in range(2, 12):
        state.enforce(Version(0, str(number), 1.0, "ada", {}, {}, confirm_by=9.0, falls_back=1))
    assert [version.number for version in state.since(0)] == [1, 9, 10, 11]
    state.end(*((number, End(Fate.CONFIRMED, 1.0, "ada")) for number in (9, 10, 11)))
    enforce(state, "new")
    assert [version.number for version in state.since(0)] == [10, 11, 12]


def test_the_version_with_a_slice_is_the_newest_before_the_time(state: State) -> None:
    for number, digest in enumerate("abc"):
        enforce(state, digest, float(number), **{"big-store": "s1" if digest != "b" else "s2"})

    def at(time: float, target: str = "big-store", slice: str = "s1") -> str | None:
        version = state.with_slice(target, slice, time)
        return version.digest if version else None

    assert (at(0.5), at(1.5), at(2.0)) == ("a", "a", "c")
    assert at(-1.0) == "c", "there is none before: any other says more than nothing"
    assert at(1.0, slice="s2") == "b"
    assert at(1.0, target="orders") is None


def test_a_version_knows_who_was_in_quarantine(state: State) -> None:
    state.enforce(Version(0, "a", 1.0, "ada", {}, {}, frozenset({"orders", "big-store"})))
    version = state.enforced()
    assert version is not None
    assert version.quarantined == {"orders", "big-store"}


def test_what_must_happen_with_a_version_happens_with_it_or_not_at_all(state: State) -> None:
    version = Version(0, "a", 1.0, "ada", {}, {})
    with pytest.raises(StateError, match="no such table: elsewhere"):
        state.enforce(version, [("INSERT INTO elsewhere VALUES (1)", ())])
    assert state.enforced() is None
    state.enforce(version, [("INSERT INTO outbound VALUES (?, ?)", ("orders", "127.0.0.1:1"))])
    assert state.enforced() is not None
    assert state.outbound() == {"orders": "127.0.0.1:1"}


def test_a_version_that_was_refused_is_on_record_and_not_enforced(state: State) -> None:
    enforce(state, "a")
    enforce(state, "b", orders="s1")
    state.end((2, End(Fate.REFUSED, 3.0, "n1: no such cluster")))
    version = state.enforced()
    assert version is not None
    assert version.digest == "a"
    (refused,) = state.since(1)
    assert (refused.digest, refused.end) == ("b", End(Fate.REFUSED, 3.0, "n1: no such cluster"))
    assert state.with_slice("orders", "s1", 9.0) == refused, "some node may have decided by it"


def test_all_that_is_known_of_a_version_comes_back(state: State) -> None:
    signature = Signature("key", "cafe")
    version = Version(
        7, "a", 1.0, "ada", {"septum.yaml": b"x"}, {"orders": "s"}, frozenset({"orders"}), "b", "why", "c0ffee", 3,
        60.5, 5, signature, End(Fate.CONFIRMED, 2.5, "bob", signature),
    )  # fmt: skip
    state.enforce(version)
    assert state.enforced() == version
    assert (version.place, version.awaits) == (3, False)
    assert state.next_number() == 8


def test_a_number_never_comes_back(state: State, tmp_path: Path) -> None:
    enforce(state, "a")
    with closing(sqlite3.connect(tmp_path / "state.db")) as other, other:
        other.execute("DELETE FROM version")
    assert state.next_number() == 2


def test_how_things_were_is_kept_as_long_as_the_version(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Baseline(4.5, frozenset({"orders"}))
    state.enforce(Version(0, "a", 1.0, "ada", {}, {}), [baseline_statement(1, before)])
    assert (state.baseline(1), state.baseline(2)) == (before, None)
    monkeypatch.setattr(module, "KEPT_VERSIONS", 1)
    enforce(state, "b")
    assert state.baseline(1) is None


@pytest.mark.parametrize("column", ["files", "slices", "quarantined", "fate"])
def test_a_version_that_is_stored_as_none_looks_is_an_error_of_its_own(
    state: State, tmp_path: Path, column: str
) -> None:
    enforce(state, "a")
    with closing(sqlite3.connect(tmp_path / "state.db")) as other, other:
        other.execute(f"UPDATE version SET {column} = 'nonsense'")
    with pytest.raises(UnreadableVersion, match="version 1 is stored as what no version looks like"):
        state.enforced()


def test_a_workload_has_one_address_and_workloads_of_different_nodes_may_share_one(state: State) -> None:
    state.set_outbound("orders", "127.0.0.1:19000")
    state.set_outbound("orders", "127.0.0.1:19001")
    state.set_outbound("payments", "127.0.0.1:19001")
    assert state.outbound() == {"orders": "127.0.0.1:19001", "payments": "127.0.0.1:19001"}


# As the first release made it.
FIRST_SCHEMA = """
PRAGMA journal_mode=WAL;
CREATE TABLE version (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL,
    applied REAL NOT NULL,
    author TEXT NOT NULL,
    files TEXT NOT NULL,
    slices TEXT NOT NULL
);
CREATE TABLE outbound (workload TEXT PRIMARY KEY, address TEXT NOT NULL UNIQUE);
INSERT INTO version (digest, applied, author, files, slices)
    VALUES ('a', 1.0, 'ada', '{"septum.yaml": "mesh: a\\n"}', '{"orders": "s1"}'),
           ('b', 2.0, 'bob', '{"septum.yaml": "mesh: b\\n"}', '{"orders": "s2"}');
INSERT INTO outbound VALUES ('orders', '127.0.0.1:19000'), ('payments', '127.0.0.1:19001');
"""


def test_a_state_of_the_first_release_is_taken_over_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as first:
        first.executescript(FIRST_SCHEMA)
    for _ in range(2):
        with closing(State(path)) as state:
            assert state.enforced() == Version(2, "b", 2.0, "bob", {"septum.yaml": b"mesh: b\n"}, {"orders": "s2"})
            assert state.with_slice("orders", "s1", 9.0) == Version(
                1, "a", 1.0, "ada", {"septum.yaml": b"mesh: a\n"}, {"orders": "s1"}
            )
            assert state.outbound() == {"orders": "127.0.0.1:19000", "payments": "127.0.0.1:19001"}
    with closing(State(path)) as state:
        state.set_outbound("payments", "127.0.0.1:19000")
        enforce(state, "c", 3.0)
        version = state.enforced()
        assert version is not None
        assert version.number == 3
        assert state.outbound()["orders"] == state.outbound()["payments"]


def test_a_state_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    State(path).close()
    with closing(sqlite3.connect(path)) as later:
        later.execute("PRAGMA user_version = 99")
    with pytest.raises(StateError, match=r"state\.db was written by a newer Septum"):
        State(path)


def test_an_upgrade_that_could_not_be_finished_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as first:
        first.executescript(FIRST_SCHEMA)
        first.execute("CREATE TABLE outbound_0 (in_the_way TEXT)")
    with pytest.raises(StateError, match="outbound_0"):
        State(path)
    with closing(sqlite3.connect(path)) as first:
        first.execute("DROP TABLE outbound_0")
    with closing(State(path)) as state:
        assert state.outbound() == {"orders": "127.0.0.1:19000", "payments": "127.0.0.1:19001"}


def no_database(path: Path) -> None:
    path.write_bytes(b"this is not a database " * 1000)


@pytest.mark.parametrize("make", [no_database, Path.mkdir])
def test_a_file_that_is_none(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "state.db")
    with pytest.raises(StateError, match=r"state\.db: "):
        State(tmp_path / "state.db")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"state\.db: unable to open"):
        State(tmp_path / "not-there" / "state.db")


def test_what_cannot_be_read_or_written_is_an_error_of_the_state(state: State, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        other.executescript("DROP TABLE version; DROP TABLE outbound")
    for action in (
        lambda: enforce(state, "a"),
        state.enforced,
        state.outbound,
        lambda: state.set_outbound("orders", "127.0.0.1:1"),
        lambda: state.with_slice("orders", "s", 1.0),
    ):
        with pytest.raises(StateError, match=r"state\.db: no such table"):
            action()


def test_what_could_not_be_stored_whole_was_not_stored(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a restart would enforce a version of which it was said that nothing changed."""
    enforce(state, "a")
    monkeypatch.setattr(module, "KEPT_VERSIONS", 1)
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        other.execute("CREATE TRIGGER t BEFORE DELETE ON version BEGIN SELECT RAISE(ABORT, 'no space'); END")
        with pytest.raises(StateError, match="no space"):
            enforce(state, "b")
        version = state.enforced()
        assert version is not None
        assert version.digest == "a"
        other.execute("DROP TRIGGER t")
    enforce(state, "b")
    version = state.enforced()
    assert version is not None
    assert version.digest == "b"


# As the second release made it, with a version in quarantine.
SECOND_SCHEMA = (
    FIRST_SCHEMA.replace("address TEXT NOT NULL UNIQUE", "address TEXT NOT NULL")
    + """
ALTER TABLE version ADD COLUMN quarantined TEXT NOT NULL DEFAULT '[]';
UPDATE version SET quarantined = '["orders"]' WHERE digest = 'b';
PRAGMA user_version = 1;
"""
)


def test_a_state_of_the_second_release_is_taken_over_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as second:
        second.executescript(SECOND_SCHEMA)
    for _ in range(2):
        with closing(State(path)) as state:
            expected = Version(
                2, "b", 2.0, "bob", {"septum.yaml": b"mesh: b\n"}, {"orders": "s2"}, frozenset({"orders"})
            )
            assert state.enforced() == expected
            assert state.next_number() == 3
