"""What of a candidate can be asked beside the mesh that is enforced: its rules can, and most of its mesh cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from septum.model.mesh import External, Mesh, Target

# What of a target counts in what is allowed on it.
_DECISIVE = ("health", "websocket", "path_parameters", "ignore_case")


def left_out(enforced: Mesh, own: Mesh) -> tuple[str, ...]:
    """What of a candidate's own mesh is not asked, or is answered by a denial, each as a sentence for its author."""
    return (*_targets(enforced, own), *_differing(enforced, own), *_around(enforced, own))


def _targets(enforced: Mesh, own: Mesh) -> Iterator[str]:
    for name in own.targets.keys() - enforced.targets.keys():
        yield f"`{name}` is not in the enforced mesh, so nobody can call it yet, nor it anybody"
    for name, target in enforced.targets.items():
        other = own.target(name)
        if other is None:
            yield f"`{name}` is not in the candidate: every call to it or from it counts as denied"
        elif not comparable(target, other):
            yield f"`{name}` is something else in the candidate ({_kind(other)}): every call to it counts as denied"


def _differing(enforced: Mesh, own: Mesh) -> Iterator[str]:
    for name, target in enforced.targets.items():
        other = own.target(name)
        if other is None or not comparable(target, other):
            continue
        if enforced.mode(target) is not own.mode(other):
            yield f"`{name}` would be {_mode(own, other)}: a candidate carries nothing out, whatever its mode"
        if other.websocket and not target.websocket and _refuses_upgrades(enforced, target):
            yield f"`{name}` would take WebSocket: its proxy still refuses it before anything is asked"
        different = [f"`{key}`" for key, value in _elsewhere(other).items() if _elsewhere(target)[key] != value]
        if different:
            yield f"`{name}` has another {', '.join(different)} in the candidate: the enforced one stays"


def _around(enforced: Mesh, own: Mesh) -> Iterator[str]:
    if enforced.issuers != own.issuers:
        yield "the issuers of tokens differ: tokens are verified as the enforced mesh says"
    if enforced.nodes != own.nodes:
        yield "the nodes differ: those of the enforced mesh stay"


def comparable(enforced: Target, own: Target) -> bool:
    """Whether requests to a target can be those that a candidate means by its name."""
    return enforced.protocol is own.protocol and isinstance(enforced, External) == isinstance(own, External)


def _kind(target: Target) -> str:
    return f"a place outside that speaks {target.protocol}" if isinstance(target, External) else f"{target.protocol}"


def _mode(mesh: Mesh, target: Target) -> str:
    return {"enforce": "enforced", "observe": "observed"}[mesh.mode(target)]


def _refuses_upgrades(mesh: Mesh, target: Target) -> bool:
    return mesh.mode(target) == "enforce"


def _elsewhere(target: Target) -> Mapping[str, object]:
    """What of a target says where and how it is reached."""
    fields = asdict(target)
    for name in ("name", "span", "segment", "protocol", "mode", *_DECISIVE):
        fields.pop(name, None)
    return fields
