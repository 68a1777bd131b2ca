"""Rotation step by step, and a crash at each point of each step."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from openssl_judge import handshake, openssl_verifies
from pki import DAY, DOMAIN, NOW

from septum.identity.authority import Authority, AuthorityError, NoAuthorityError
from septum.identity.csr import csr, new_key
from septum.identity.issuer import Upstream
from septum.identity.leaf import read_leaf
from septum.identity.ledger import Stage, What
from septum.identity.names import WorkloadId
from septum.identity.pem import CertificateError, is_encrypted, read_certificates
from septum.identity.rotation import Rotation, Step, carry_out, remaining
from septum.identity.standing import KeyPlace
from septum.model.spiffe import SpiffeId

ORDERS = WorkloadId(SpiffeId(DOMAIN, "orders"))
Own = tuple[bytes, bytes]


@pytest.fixture
def made(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca", DOMAIN, NOW)


def own(authority: Authority, now: float = NOW) -> Own:
    key = new_key()
    return authority.issue(csr(key), ORDERS, 3600, now).chain_pem, key


def works(client: Own, server: Own, authority: Authority) -> bool:
    """Whether both ends accept each other with what the authority says is trusted."""
    bundle = authority.bundle(NOW)
    return handshake(client, server, bundle.roots_pem, "orders.shop.test", bundle.crl_pem) == ""


@pytest.mark.parametrize("what", What)
def test_old_and_new_work_together_until_the_old_is_dropped(made: Authority, what: What) -> None:
    old, issuer = own(made), made.issuer
    made.prepare(what, NOW)
    assert (made.stage, made.issuer, made.what) == (Stage.PREPARED, issuer, what)
    assert works(old, own(made), made)
    made.activate()
    new = own(made)
    assert (made.stage, made.issuer != issuer) == (Stage.ACTIVATED, True)
    assert works(old, new, made)
    assert works(new, old, made)
    assert [made.verify(chain, NOW) for chain, _ in (old, new)] == [ORDERS, ORDERS]
    made.retire()
    assert made.stage is Stage.RETIRED
    assert works(new, new, made)
    assert not works(old, new, made)
    assert not works(new, old, made)
    with pytest.raises(CertificateError, match="leads to no root" if what is What.ROOT else "is retired"):
        made.verify(old[0], NOW)


def test_who_holds_the_prepared_bundle_accepts_what_is_issued_next(made: Authority) -> None:
    """A node may be late by one step: it must not refuse, nor be refused by, those that are not."""
    made.prepare(What.ROOT, NOW)
    before, old = made.bundle(NOW), own(made)
    made.activate()
    new = own(made)
    for client, server in ((old, new), (new, old)):
        assert handshake(client, server, before.roots_pem, "orders.shop.test", before.crl_pem) == ""


@pytest.mark.parametrize("what", What)
def test_the_bundle_at_each_step(made: Authority, what: What) -> None:
    roots, lists = [], []
    for step in (None, *Step):
        if step:
            carry_out(made, step, Rotation(what), NOW)
        bundle = made.bundle(NOW)
        roots.append(bundle.roots_pem.count(b"BEGIN"))
        lists.append(bundle.crl_pem.count(b"BEGIN"))
    assert roots == ([1, 2, 2, 1] if what is What.ROOT else [1, 1, 1, 1])
    assert lists == [1, 2, 2, 1]


def test_the_sequence_grows(made: Authority) -> None:
    seen = []
    for step in Step:
        carry_out(made, step, Rotation(), NOW)
        seen.append(made.bundle(NOW).spiffe_json.partition('"spiffe_sequence": ')[2].partition(",")[0])
    assert seen == ["2", "3", "4"]


def test_a_step_out_of_turn(made: Authority) -> None:
    with pytest.raises(AuthorityError, match="nothing is prepared: `septum ca rotate --step prepare` comes first"):
        made.activate()
    with pytest.raises(AuthorityError, match="no rotation is under way: `septum ca rotate --step prepare` begins one"):
        made.retire()
    made.prepare(What.INTERMEDIATE, NOW)
    with pytest.raises(AuthorityError, match="the old one still signs: `septum ca rotate --step activate` comes first"):
        made.retire()
    with pytest.raises(AuthorityError, match="a rotation of the intermediate is under way: finish it first"):
        made.prepare(What.ROOT, NOW)
    made.activate()
    with pytest.raises(AuthorityError, match="the new one signs already: `septum ca rotate --step retire` comes first"):
        made.prepare(What.INTERMEDIATE, NOW)


@pytest.mark.parametrize("what", What)
def test_a_step_that_is_done_again_does_nothing(made: Authority, tmp_path: Path, what: What) -> None:
    for step in Step:
        carry_out(made, step, Rotation(what), NOW)
        there = {path.name: path.read_bytes() for path in (tmp_path / "ca").iterdir()}
        carry_out(made, step, Rotation(what), NOW + 1)
        assert {path.name: path.read_bytes() for path in (tmp_path / "ca").iterdir()} == there


def test_what_is_left_to_do(made: Authority) -> None:
    assert remaining(made.stage) == (Step.PREPARE, Step.ACTIVATE, Step.RETIRE)
    assert carry_out(made, Step.PREPARE, Rotation(What.INTERMEDIATE), NOW).startswith("prepared: the new intermediate")
    assert remaining(made.stage) == (Step.ACTIVATE, Step.RETIRE)
    carry_out(made, Step.ACTIVATE, Rotation(), NOW)
    assert remaining(made.stage) == (Step.RETIRE,)
    carry_out(made, Step.RETIRE, Rotation(), NOW)
    assert remaining(made.stage) == tuple(Step)


def test_another_process_has_changed_it_meanwhile(made: Authority, tmp_path: Path) -> None:
    other = Authority.open(tmp_path / "ca", DOMAIN)
    other.prepare(What.ROOT, NOW)
    made.revoke({7: NOW + DAY}, NOW)
    assert made.stage is Stage.PREPARED
    again = Authority.open(tmp_path / "ca", DOMAIN)
    assert (again.stage, again.revoked) == (Stage.PREPARED, {7})


def test_a_revocation_outlives_a_rotation(made: Authority) -> None:
    issued = made.issue(csr(new_key()), ORDERS, 3600, NOW)
    made.revoke({issued.serial: issued.not_after}, NOW)
    made.prepare(What.INTERMEDIATE, NOW)
    made.activate()
    bundle = made.bundle(NOW)
    assert not openssl_verifies(issued.chain_pem, bundle.roots_pem, bundle.crl_pem)


# --- the root's key elsewhere


@pytest.fixture
def offline(made: Authority, tmp_path: Path) -> Path:
    """The key of the authority's root, taken away."""
    [key] = (tmp_path / "ca").glob("root-*.key")
    return Path(shutil.move(key, tmp_path / "safe.key"))


def test_without_the_roots_key_all_works_but_a_new_intermediate(made: Authority, offline: Path, tmp_path: Path) -> None:
    again = Authority.open(tmp_path / "ca", DOMAIN)
    issued = again.issue(csr(new_key()), ORDERS, 3600, NOW)
    again.revoke({issued.serial: issued.not_after}, NOW)
    assert [part.key for part in again.standing().parts] == [KeyPlace.HERE, KeyPlace.ELSEWHERE]
    with pytest.raises(
        AuthorityError, match=r"which is not here \(it was made as .*/root-.*\.key\): .*--root-key FILE"
    ):
        again.prepare(What.INTERMEDIATE, NOW)
    assert again.stage is Stage.STEADY
    again.prepare(What.INTERMEDIATE, NOW, root_key=offline.read_bytes())
    again.activate()
    assert again.verify(own(again)[0], NOW) == ORDERS
    assert not list((tmp_path / "ca").glob("root-*.key")), "a key that was given is not kept"


def test_a_new_root_does_not_need_the_old_roots_key(made: Authority, offline: Path) -> None:
    for step in Step:
        carry_out(made, step, Rotation(What.ROOT), NOW)
    assert made.verify(own(made)[0], NOW) == ORDERS


def test_an_encrypted_root_key(tmp_path: Path) -> None:
    made = Authority.create(tmp_path / "ca", DOMAIN, NOW, passphrase=b"one")
    assert [part.key for part in made.standing().parts] == [KeyPlace.HERE, KeyPlace.ENCRYPTED]
    with pytest.raises(AuthorityError, match="no passphrase was given: --passphrase-file FILE"):
        made.prepare(What.INTERMEDIATE, NOW)
    with pytest.raises(AuthorityError, match="not the one that this key was encrypted with: --passphrase-file FILE"):
        made.prepare(What.INTERMEDIATE, NOW, passphrase=b"two")
    made.prepare(What.INTERMEDIATE, NOW, passphrase=b"one")
    made.activate()
    made.retire()
    made.prepare(What.ROOT, NOW, passphrase=b"three")
    keys = [path.read_bytes() for path in (tmp_path / "ca").glob("root-*.key")]
    assert [is_encrypted(key) for key in keys] == [True, True]


def test_a_passphrase_that_is_not_needed(made: Authority) -> None:
    made.prepare(What.INTERMEDIATE, NOW, passphrase=b"one")
    assert made.stage is Stage.PREPARED


def test_a_new_intermediate_lives_as_long_as_the_first(made: Authority) -> None:
    later = NOW + 340 * DAY
    assert made.standing().warnings(NOW) == []
    [warning] = made.standing().warnings(later)
    assert warning.endswith("in 24 days: septum ca rotate --what intermediate")
    made.prepare(What.INTERMEDIATE, later)
    made.activate()
    made.retire()
    assert made.standing().warnings(later) == []
    assert read_leaf(own(made, later)[0]).not_after == int(later + 3600)


def test_what_is_asked_of_a_rotation_travels_as_text() -> None:
    asked = Rotation(What.ROOT, b"key", b"\xff\n", Upstream(b"chain", b"its key", b"\xff\n"))
    assert Rotation.read({"op": "ca", "step": "all"} | asked.arguments()) == asked
    assert Rotation.read(Rotation().arguments()) == Rotation()
    with pytest.raises(ValueError, match="leaf"):
        Rotation.read({"what": "leaf"})


# --- crashes

# What changes a disk, by the name under which Python reports it.
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod"}


def crash(work: Callable[[], object], at: int, below: Path) -> bool:
    """Do the work in a process that ends, with nothing flushed, before its `at`-th touch of a directory's files.

    Whether it came so far.
    """
    child = os.fork()
    if child == 0:
        seen = count()

        def end(event: str, arguments: tuple[object, ...]) -> None:
            if event in EVENTS and str(arguments[0]).startswith(str(below)) and next(seen) == at:
                os._exit(3)

        sys.addaudithook(end)
        try:
            work()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 3), "it failed, and did not crash"
    return status == 3


def copies(directory: Path) -> Iterator[Path]:
    """Fresh copies of a directory, for one crash each."""
    for number in count():
        copy = directory.parent / f"crash{number}" / "ca"
        shutil.copytree(directory, copy)
        yield copy


def step_of(directory: Path, what: What, step: Step) -> None:
    carry_out(Authority.open(directory, DOMAIN), step, Rotation(what), NOW)


@pytest.mark.parametrize("what", What)
@pytest.mark.parametrize("step", Step)
def test_a_crash_at_each_point_of_a_step(made: Authority, tmp_path: Path, what: What, step: Step) -> None:
    for earlier in list(Step)[: list(Step).index(step)]:
        carry_out(made, earlier, Rotation(what), NOW)
    chain, trusted = own(made)[0], set(read_certificates(made.bundle(NOW).roots_pem))
    crashes = 0
    for copy in copies(tmp_path / "ca"):
        if not crash(lambda copy=copy: step_of(copy, what, step), crashes, copy):
            break
        crashes += 1
        after = Authority.open(copy, DOMAIN)
        done = after.stage is not made.stage
        if not done:
            assert set(read_certificates(after.bundle(NOW).roots_pem)) == trusted
        if not (done and step is Step.RETIRE):
            assert after.verify(chain, NOW) == ORDERS
        assert after.verify(own(after)[0], NOW) == ORDERS
        assert {stat.S_IMODE(path.stat().st_mode) for path in copy.iterdir()} == {0o600}
        step_of(copy, what, step)
        finished = Authority.open(copy, DOMAIN)
        assert finished.verify(own(finished)[0], NOW) == ORDERS
        lines = 1 if step is Step.RETIRE else 2
        kinds = sorted(path.name.partition("-")[0] + path.suffix for path in copy.iterdir())
        roots = lines if what is What.ROOT else 1
        assert (
            kinds
            == ["authority.json.json", *["intermediate.key"] * lines, *["intermediate.pem"] * lines]
            + ["root.key"] * roots
        ), "and nothing is left behind"
    assert crashes > 5


def test_a_crash_at_each_point_of_the_creation(tmp_path: Path) -> None:
    crashes = 0
    for number in count():
        place = tmp_path / f"crash{number}" / "ca"
        place.parent.mkdir()
        if not crash(lambda place=place: Authority.create(place, DOMAIN, NOW), number, place):
            break
        crashes += 1
        try:
            made = Authority.open(place, DOMAIN)
        except NoAuthorityError:
            made = Authority.create(place, DOMAIN, NOW)
        assert made.verify(own(made)[0], NOW) == ORDERS
        made.revoke({1: NOW + 1}, NOW)
        assert len(list(place.iterdir())) == 4
    assert crashes > 8


def test_a_crash_while_revoking(made: Authority, tmp_path: Path) -> None:
    crashes = 0
    for copy in copies(tmp_path / "ca"):
        if not crash(lambda copy=copy: Authority.open(copy, DOMAIN).revoke({7: NOW + 9}, NOW), crashes, copy):
            break
        crashes += 1
        after = Authority.open(copy, DOMAIN)
        assert after.revoked in (frozenset(), {7})
        after.revoke({7: NOW + 9}, NOW)
        assert Authority.open(copy, DOMAIN).revoked == {7}
    assert crashes > 5


def test_a_full_disk_changes_nothing(made: Authority, tmp_path: Path) -> None:
    """A file that may not grow is what a process sees of a full disk (RLIMIT_FSIZE)."""
    import resource
    import signal

    before = made.bundle(NOW)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with pytest.raises(AuthorityError, match=f"{tmp_path}/ca: File too large"):
            made.prepare(What.ROOT, NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (made.stage, made.bundle(NOW)) == (Stage.STEADY, before)
    assert Authority.open(tmp_path / "ca", DOMAIN).bundle(NOW) == before
    made.prepare(What.ROOT, NOW)
    assert made.stage is Stage.PREPARED
