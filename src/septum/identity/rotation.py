"""Rotating the authority step by step, as `septum ca rotate` asks for it, here or in the control plane.

Between two steps every node has to hold the bundle (before `activate`) and certificates of the new issuer (before
`retire`). Who drives the steps sees to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from septum.identity.authority import Authority
from septum.identity.issuer import Upstream
from septum.identity.ledger import Stage, What

_NAMES = frozenset({"what", "root_key", "passphrase", "upstream_cert", "upstream_key"})


class Step(StrEnum):
    """One step of a rotation."""

    PREPARE = "prepare"
    ACTIVATE = "activate"
    RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class Rotation:
    """What to replace (None: what a rotation under way replaces, or else the root), and what it may take.

    The keys are secrets: they are used and kept nowhere.
    """

    what: What | None = None
    root_key: bytes | None = None
    passphrase: bytes | None = None
    upstream: Upstream | None = None

    @classmethod
    def read(cls, arguments: Mapping[str, Any]) -> Rotation:
        """Read what `arguments` wrote, from among others. Raises ValueError."""
        given = {name: str(arguments[name]).encode("utf-8", "surrogateescape") for name in _NAMES & arguments.keys()}
        passphrase, what = given.get("passphrase"), arguments.get("what")
        upstream = None
        if "upstream_cert" in given:
            upstream = Upstream(given["upstream_cert"], given.get("upstream_key", b""), passphrase)
        return cls(What(what) if what else None, given.get("root_key"), passphrase, upstream)

    def arguments(self) -> dict[str, str]:
        """This as JSON takes it; what was not given is left out."""
        upstream = self.upstream
        given = {
            "what": self.what.encode() if self.what else None,
            "root_key": self.root_key,
            "passphrase": self.passphrase,
            "upstream_cert": upstream.chain_pem if upstream else None,
            "upstream_key": upstream.key_pem if upstream else None,
        }
        return {name: value.decode("utf-8", "surrogateescape") for name, value in given.items() if value is not None}


def remaining(stage: Stage) -> tuple[Step, ...]:
    """The steps that end the rotation that is under way, or else make a whole one."""
    match stage:
        case Stage.PREPARED:
            return (Step.ACTIVATE, Step.RETIRE)
        case Stage.ACTIVATED:
            return (Step.RETIRE,)
        case Stage.STEADY | Stage.RETIRED:
            return (Step.PREPARE, Step.ACTIVATE, Step.RETIRE)


def carry_out(authority: Authority, step: Step, rotation: Rotation, now: float) -> str:
    """Do one step, and say what was done. Raises AuthorityError when it is not its turn, or it cannot be done."""
    under_way = authority.stage in (Stage.PREPARED, Stage.ACTIVATED)
    what = rotation.what or (authority.what if under_way else What.ROOT)
    match step:
        case Step.PREPARE:
            authority.prepare(
                what, now, root_key=rotation.root_key, passphrase=rotation.passphrase, upstream=rotation.upstream
            )
            return f"prepared: the new {authority.what} is trusted beside the old one"
        case Step.ACTIVATE:
            authority.activate()
            return f"activated: the new {authority.what} signs, and the old one is trusted too"
        case Step.RETIRE:
            authority.retire()
            return f"retired: the old {authority.what} is trusted no longer, and its keys are removed"
