"""The steps that carry a plan out. Printing a plan and applying it walk the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from septum.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Expect:
    """This version is still the enforced one (empty: none is). If not, the plan is refused."""

    version: str


@dataclass(frozen=True, slots=True)
class Keep:
    """The guarantees hold, but for those that are overridden. If one is `broken`, the plan is refused."""

    guarantees: int
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Enforce:
    """The files, with those who are in quarantine, become the enforced version, which is stored and sent."""

    version: str
    files: Mapping[str, str]
    quarantined: tuple[str, ...]
    message: str
    commit: str


@dataclass(frozen=True, slots=True)
class Hold:
    """These nodes get something else than they have; every node says that it holds the version."""

    version: str
    nodes: tuple[str, ...]


Stage = Expect | Keep | Enforce | Hold


def stages(plan: Plan) -> tuple[Stage, ...]:
    """What is to be done, in order; nothing where nothing changes."""
    if plan.changes_nothing:
        return ()
    version = plan.wanted.version
    return (
        Expect(plan.base.version),
        Keep(len(plan.guarantees), tuple(one.name for one in plan.broken)),
        Enforce(version, plan.files, plan.quarantined, plan.message, plan.commit),
        Hold(version, plan.touched.nodes),
    )


def stage_text(stage: Stage) -> str:
    """A stage in words."""
    match stage:
        case Expect(""):
            return "expect that nothing is enforced yet"
        case Expect(version):
            return f"expect that {version[:12]} is still what is enforced"
        case Keep(0, _):
            return "there are no guarantees to keep"
        case Keep(count, ()):
            return f"keep {_number(count, 'guarantee')}"
        case Keep(_, broken):
            return f"refused: {', '.join(broken)} would be broken"
        case Enforce(version, files, _, _, _):
            return f"store {_number(len(files), 'file')} as version {version[:12]}, and send it"
        case Hold(_, nodes):
            named = ", ".join(name for name in nodes if name)
            return f"wait until it is held, on {named}" if named else "wait until it is held"
        case _:
            assert_never(stage)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
