"""A set of names as selectors: whole segments where a set has all of one, and names for the rest."""

from __future__ import annotations

from collections.abc import Collection

from septum.model.mesh import Mesh


def selector_text(names: Collection[str], mesh: Mesh) -> str:
    """`segment:core, ledger`: segments of which every workload is in the set (and which have several), then names."""
    rest, whole = set(names), []
    for segment in mesh.segments:
        members = mesh.members(segment) if rest else ()
        if len(members) > 1 and rest.issuperset(members):
            whole.append(f"segment:{segment}")
            rest.difference_update(members)
    return ", ".join([*whole, *sorted(rest)])
