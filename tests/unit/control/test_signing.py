"""What was changed in the state by whoever has not the key is seen, and is not enforced."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from control_world import World, files

from meshes import SHOP_RULES
from septum.control.applied import Outcome, Terms
from septum.control.signing import BadSignature, Signatures, Signer, Standing
from septum.control.state import StateError, UnreadableVersion, Version
from septum.control.versions import Versions
from septum.identity.csr import new_key

pytestmark = pytest.mark.anyio

NARROWER = SHOP_RULES.replace(", POST /orders", "")
WIDER = SHOP_RULES.replace("POST /orders]", "POST /orders, GET /basket]")


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path, 0)


def version(number: int = 1) -> Version:
    files = {"septum.yaml": b"mesh: x\n", "policy/a.yaml": b"allow: []\n"}
    return Version(number, "a" * 64, 1.5, "ada", files, {"orders": "s"})


def verdict(world: World, number: int | None = None) -> Standing:
    versions = Versions(world.state.rows)
    found = versions.find("enforced" if number is None else str(number))
    assert found is not None
    return Signatures(world.path.parent).verdict(found).standing


def test_what_was_signed_is_good_and_says_by_which_key(signer: Signer, tmp_path: Path) -> None:
    signed = signer.signed(version())
    found = Signatures(tmp_path).verdict(signed)
    assert (found.standing, found.signer, found.why) == (Standing.GOOD, signer.fingerprint, "")
    (key,) = signer.keys()
    assert (key.fingerprint, key.current) == (signer.fingerprint, True)


def test_the_key_is_the_owners_alone_and_the_same_at_the_next_start(signer: Signer, tmp_path: Path) -> None:
    assert (tmp_path / "signing").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "signing" / "key").stat().st_mode & 0o777 == 0o600
    assert Signer(tmp_path, 5).fingerprint == signer.fingerprint


def test_a_signature_is_of_one_version_alone(signer: Signer) -> None:
    first, second = signer.signed(version(1)), signer.signed(version(2))
    assert signer.verdict(replace(second, signature=first.signature)).standing is Standing.BAD


# What each change of a row would do, were it not seen.
TAMPERED = {
    "other files": ("files", "replace(files, 'GET /orders/{id}', 'DELETE /orders/{id}')"),
    "a file more": ("files", """json_insert(files, '$."policy/more.yaml"', 'allow: []')"""),
    "a file less": ("files", """json_remove(files, '$."policy/rules.yaml"')"""),
    "another digest": ("digest", "replace(digest, substr(digest, 1, 1), 'x')"),
    "another time": ("applied", "applied + 1"),
    "another author": ("author", "'eve'"),
    "other slices": ("slices", "replace(slices, '\"orders\"', '\"0rders\"')"),
    "nobody in quarantine": ("quarantined", "'[]'"),
    "another before": ("previous", "'b'"),
    "another message": ("message", "'nothing to see'"),
    "another commit": ("git_commit", "'c0ffee'"),
    "another rollback": ("restores", "2"),
    "no rollback": ("restores", "NULL"),
    "more time": ("confirm_by", "confirm_by + 3600"),
    "nothing to confirm": ("confirm_by", "NULL"),
    "another way back": ("falls_back", "falls_back - 1"),
    "another key": ("signer", "'0123456789abcdef'"),
    "a key elsewhere": ("signer", "'../signing/' || signer"),
    "another signature": (
        "signature",
        "CASE substr(signature, 1, 2) WHEN '00' THEN 'ff' ELSE '00' END || substr(signature, 3)",
    ),
    "no signature": ("signature", "''"),
    "confirmed by nobody": ("fate", "'confirmed'"),
    "refused by nobody": ("fate", "'refused'"),
    "nonsense for a fate": ("fate", "'perhaps'"),
    "nonsense for a signature": ("signature", "'zz'"),
    "nonsense for files": ("files", "'['"),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_a_version_that_was_tampered_with_is_not_taken_up(world: World, what: str) -> None:
    """The newest one is a rollback on trial, with somebody in quarantine, so that no column is empty."""
    world.node()
    for rules in (SHOP_RULES, WIDER, NARROWER):
        await world.apply(rules)
    await world.ask("quarantine", workload="ledger", author="ada")
    stored = Versions(world.state.rows).find("1")
    assert stored is not None
    await world.plane.rollback(stored, "ada", terms=Terms("why", "c0ffee-dirty", confirm=60.0))
    column, value = TAMPERED[what]
    _changed(world, f"UPDATE version SET {column} = {value} WHERE number = (SELECT max(number) FROM version)")
    with closing(_again(world)) as again:
        with pytest.raises((BadSignature, UnreadableVersion)):
            again.plane.restore()
        assert again.plane.policy is None
        assert (await again.ask("ready"))["unused"]
        assert again.fleet.nodes() == (), "nothing is published"
        assert (await again.apply(patience=0.01)).outcome is Outcome.SENT
        assert (await again.ask("ready", patience=0.01))["unused"] == ""


def _changed(world: World, statement: str) -> None:
    with closing(sqlite3.connect(world.path)) as other, other:
        before = other.execute("SELECT * FROM version").fetchall()
        other.execute(statement)
        assert other.execute("SELECT * FROM version").fetchall() != before


class _Again(World):
    def close(self) -> None:
        self.state.close()


def _again(world: World) -> _Again:
    return _Again(world.path.parent)


async def test_the_same_without_tampering_is_taken_up(world: World) -> None:
    world.node()
    await world.apply()
    with closing(_again(world)) as again:
        assert again.plane.restore()
        assert again.version() == world.version()
    assert verdict(world) is Standing.GOOD


async def test_what_nodes_refused_cannot_be_made_up(world: World) -> None:
    """Or a state without the key could be sent back to any earlier version."""
    world.node()
    await world.apply()
    await world.apply(NARROWER)
    _changed(world, "UPDATE version SET fate = 'refused', fate_at = 1, fate_why = 'n1: no' WHERE number = 2")
    assert world.state.enforced().number == 1  # type: ignore[union-attr]
    with closing(_again(world)) as again, pytest.raises(BadSignature, match=r"version 2 .* is not what was stored"):
        again.plane.restore()


async def test_an_end_cannot_be_taken_from_another_version(world: World) -> None:
    world.node()
    await world.apply()
    for rules in (NARROWER, WIDER):
        await world.plane.apply(files(rules), "ada", terms=Terms(confirm=60.0, supersede=True))
    await world.plane.confirm("ada")
    assert verdict(world, 3) is Standing.GOOD
    columns = ("fate", "fate_at", "fate_why", "fate_signer", "fate_signature")
    taken = ", ".join(f"{c} = (SELECT {c} FROM version WHERE number = 3)" for c in columns)
    _changed(world, f"UPDATE version SET {taken} WHERE number = 2")
    assert (verdict(world, 2), verdict(world, 3)) == (Standing.BAD, Standing.GOOD)


async def test_nobody_goes_back_to_what_was_tampered_with(world: World) -> None:
    world.node()
    await world.apply()
    after = await world.apply(NARROWER)
    _changed(world, "UPDATE version SET files = replace(files, 'GET /orders/{id}', 'GET /**') WHERE number = 1")
    said = await world.ask("rollback", author="ada")
    assert "version 1" in said["error"]
    assert "is not what was stored" in said["error"]
    assert world.version() == world.enforced() == after.version


class TestKeys:
    def test_what_was_there_before_keys_is_unsigned_and_used(self, tmp_path: Path) -> None:
        signer = Signer(tmp_path, 4)
        assert signer.verdict(version(4)).standing is Standing.UNSIGNED
        signer.expect(version(4))
        with pytest.raises(BadSignature, match="it is not signed, and every version after its time is"):
            signer.expect(version(5))

    def test_how_far_that_reaches_is_said_once(self, signer: Signer, tmp_path: Path) -> None:
        assert Signer(tmp_path, 9).verdict(version(1)).standing is Standing.BAD

    def test_a_lost_key_is_replaced_and_what_it_signed_stays_known(self, signer: Signer, tmp_path: Path) -> None:
        signed = signer.signed(version())
        (tmp_path / "signing" / "key").unlink()
        second = Signer(tmp_path, 1)
        assert second.fingerprint != signer.fingerprint
        assert second.verdict(signed).standing is Standing.GOOD
        known = second.keys()
        assert {key.fingerprint: key.current for key in known} == {signer.fingerprint: False, second.fingerprint: True}

    def test_a_key_that_nobody_knows_is_worth_nothing(self, signer: Signer, tmp_path: Path) -> None:
        signed = Signer(tmp_path / "elsewhere", 0).signed(version())
        assert signer.verdict(signed).standing is Standing.BAD

    def test_a_public_key_under_another_ones_name_is_worth_nothing(self, signer: Signer, tmp_path: Path) -> None:
        other = Signer(tmp_path / "elsewhere", 0)
        (own,), (foreign,) = signer.keys(), other.keys()
        own.path.write_bytes(foreign.path.read_bytes())
        signed = other.signed(version())
        assert signed.signature is not None
        forged = replace(signed, signature=replace(signed.signature, signer=signer.fingerprint))
        assert Signatures(tmp_path).verdict(forged).standing is Standing.BAD

    @pytest.fixture(params=["open to others", "garbage", "empty", "another kind"])
    def unusable(self, request: pytest.FixtureRequest, signer: Signer, tmp_path: Path) -> Path:
        key = tmp_path / "signing" / "key"
        match request.param:
            case "open to others":
                key.chmod(0o644)
            case "garbage":
                key.write_bytes(b"not a key")
            case "empty":
                key.write_bytes(b"")
            case _:
                key.write_bytes(new_key())
        return tmp_path

    def test_a_key_that_cannot_be_used_stops_the_start_and_is_not_replaced(self, unusable: Path) -> None:
        before = (unusable / "signing" / "key").read_bytes()
        with pytest.raises(StateError, match="the key that signs versions cannot be used"):
            Signer(unusable, 0)
        assert (unusable / "signing" / "key").read_bytes() == before
