"""Finding stored versions by what people call them, and what became of each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from septum.control.state import End, Fate, State, StateError, Version
from septum.control.versions import AUTOMATIC, AmbiguousVersion, Ended, Versions


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with closing(State(tmp_path / "state.db")) as state:
        yield state


def store(state: State, content: str, digest: str = "", **differs: object) -> int:
    """A version of one file, by ada; its number."""
    number = state.next_number()
    made = (number, digest or content * 64, float(number), "ada", {"a": content.encode()}, {})
    state.enforce(Version(*made, **differs))  # type: ignore[arg-type]
    return number


def number(versions: Versions, ref: str) -> int | None:
    found = versions.find(ref)
    return found.number if found else None


@pytest.fixture
def versions(state: State, tmp_path: Path) -> Iterator[Versions]:
    """As another process sees them, while the state is open."""
    with Versions.open(tmp_path) as versions:
        yield versions


def test_there_is_nothing_at_first(versions: Versions) -> None:
    assert [versions.find(ref) for ref in ("enforced", "previous", "1", "abcd")] == [None] * 4
    assert versions.history() == []
    assert versions.last_rollback() is None


def test_what_people_call_them(state: State, versions: Versions) -> None:
    for content in "abc":
        store(state, content)
    assert (number(versions, "enforced"), number(versions, "previous")) == (3, 2)
    assert (number(versions, "1"), number(versions, "#2"), number(versions, "4")) == (1, 2, None)
    assert (number(versions, "bbbb"), number(versions, "c" * 64), number(versions, "dddd")) == (2, 3, None)
    assert number(versions, "bbb") is None, "too short to mean a version"
    for nonsense in ("", "b%%%", "BBBB", "-1", "latest", "1; DROP", "9" * 40, "#", "٣"):
        assert number(versions, nonsense) is None, nonsense


def test_digits_are_a_number_first_and_then_the_beginning_of_a_digest(state: State, versions: Versions) -> None:
    store(state, "x", "2222" + "a" * 60)
    assert number(versions, "2222") == 1
    state.enforce(Version(2222, "b" * 64, 2.0, "ada", {}, {}))
    assert number(versions, "2222") == 2222


def test_of_several_of_one_digest_it_is_the_newest(state: State, versions: Versions) -> None:
    for content in "aba":
        store(state, content)
    assert number(versions, "aaaa") == 3


def test_what_may_be_two_is_none(state: State, versions: Versions) -> None:
    store(state, "x", "abcd1" + "0" * 59)
    store(state, "y", "abcd2" + "0" * 59)
    with pytest.raises(AmbiguousVersion, match=r"several versions begin with abcd: abcd10{11}, abcd20{11}$"):
        versions.find("abcd")
    assert number(versions, "abcd2") == 2


class TestPrevious:
    def test_the_same_files_are_passed_over(self, state: State, versions: Versions) -> None:
        """A quarantine makes a version of the same files: going back to it would change nothing."""
        store(state, "a")
        store(state, "b")
        store(state, "b", "q" * 64, quarantined=frozenset({"orders"}))
        assert number(versions, "previous") == 1

    def test_what_was_refused_is_passed_over(self, state: State, versions: Versions) -> None:
        store(state, "a")
        store(state, "b", end=End(Fate.REFUSED, 1.0, "n1: no"))
        store(state, "c")
        store(state, "d", end=End(Fate.REFUSED, 1.0, "n1: no"))
        assert (number(versions, "enforced"), number(versions, "previous")) == (3, 1)

    def test_going_back_twice_goes_back_further(self, state: State, versions: Versions) -> None:
        for content in "abc":
            store(state, content)
        store(state, "b", restores=2)
        assert number(versions, "previous") == 1
        store(state, "b", "q" * 64, restores=2)  # something beside the files changed
        assert number(versions, "previous") == 1
        store(state, "a", restores=1)
        assert number(versions, "previous") is None

    def test_what_was_applied_after_a_rollback_goes_back_to_that(self, state: State, versions: Versions) -> None:
        for content in "ab":
            store(state, content)
        store(state, "a", restores=1)
        store(state, "c")
        assert number(versions, "previous") == 3

    def test_what_awaits_its_confirmation_gives_way_to_what_it_names(self, state: State, versions: Versions) -> None:
        store(state, "a")
        store(state, "b", confirm_by=60.0, falls_back=1)
        store(state, "c", confirm_by=60.0, falls_back=1)
        assert number(versions, "previous") == 1
        state.end((3, End(Fate.CONFIRMED, 9.0, "ada")))
        assert number(versions, "previous") == 2


def ends(versions: Versions) -> list[tuple[int, Ended]]:
    return [(entry.version.number, entry.ended) for entry in versions.history()]


class TestHistory:
    def test_the_newest_is_first_and_enforced(self, state: State, versions: Versions) -> None:
        for content in "abc":
            store(state, content)
        assert ends(versions) == [(3, Ended.ENFORCED), (2, Ended.REPLACED), (1, Ended.REPLACED)]
        assert versions.history(2)[1].at == 3.0
        assert len(versions.history(2)) == 2

    def test_a_rollback_and_why(self, state: State, versions: Versions) -> None:
        for content in "ab":
            store(state, content)
        store(state, "b", "q" * 64)
        store(state, "a", restores=1, message="refunds fail")
        assert ends(versions) == [
            (4, Ended.ENFORCED), (3, Ended.ROLLED_BACK), (2, Ended.ROLLED_BACK), (1, Ended.REPLACED),
        ]  # fmt: skip
        back = versions.history()[1]
        assert (back.at, back.by, back.why) == (4.0, "ada", "refunds fail")

    def test_what_follows_a_rollback_does_not_roll_it_back(self, state: State, versions: Versions) -> None:
        for content in "ab":
            store(state, content)
        store(state, "a", restores=1)
        store(state, "a", "q" * 64, restores=1)
        store(state, "b", restores=2)
        assert ends(versions)[:3] == [(5, Ended.ENFORCED), (4, Ended.REPLACED), (3, Ended.REPLACED)]

    def test_what_is_on_trial_and_how_that_ended(self, state: State, versions: Versions) -> None:
        store(state, "a")
        store(state, "b", confirm_by=60.0, falls_back=1)
        assert ends(versions)[0] == (2, Ended.PROVISIONAL)
        state.end((2, End(Fate.CONFIRMED, 9.0, "ada")))
        (entry, _) = versions.history()
        assert (entry.ended, entry.confirmed) == (Ended.ENFORCED, 9.0)
        store(state, "c")
        assert versions.history()[1].confirmed == 9.0

    def test_what_was_refused(self, state: State, versions: Versions) -> None:
        store(state, "a")
        store(state, "b", end=End(Fate.REFUSED, 2.5, "n1: no such cluster"))
        refused, enforced = versions.history()
        assert (refused.ended, refused.at, refused.why) == (Ended.REFUSED, 2.5, "n1: no such cluster")
        assert enforced.ended is Ended.ENFORCED

    def test_the_last_way_back_that_was_taken_by_itself(self, state: State, versions: Versions) -> None:
        for content in "ab":
            store(state, content)
        state.enforce(Version(0, "a" * 64, 3.0, AUTOMATIC, {"a": b"a"}, {}, restores=1, message="late"))
        store(state, "c")
        found = versions.last_rollback()
        assert found is not None
        assert (found.number, found.message) == (3, "late")


def test_there_is_no_state_to_read(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"state\.db: unable to open"):
        Versions.open(tmp_path)
    assert not list(tmp_path.iterdir()), "looking makes nothing"


@pytest.mark.parametrize(("version", "whose"), [(1, "an older Septum"), (99, "a newer Septum")])
def test_a_state_of_another_release_is_not_guessed_at(tmp_path: Path, version: int, whose: str) -> None:
    State(tmp_path / "state.db").close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        other.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(StateError, match=f"was written by {whose}"):
        Versions.open(tmp_path)


def test_it_cannot_write(versions: Versions) -> None:
    with pytest.raises(StateError, match="readonly"):
        versions._rows("DELETE FROM version", ())
