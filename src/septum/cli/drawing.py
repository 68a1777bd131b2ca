"""Calls as drawings: a tree for a terminal, Mermaid (a flowchart) and DOT (Graphviz) for pages."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from septum.cli.diagnostics import visible
from septum.cli.edge_text import edge_text
from septum.cli.output import style
from septum.model.mesh import Mesh, Mode, Workload
from septum.verify.reach import Edge, Reach


@dataclass(frozen=True, slots=True)
class Strokes:
    """What a tree is drawn with: before a name, before the last of several, below each, and for what is elsewhere."""

    one: str
    last: str
    below: str
    below_last: str
    again: str


BOXES = Strokes("├─ ", "└─ ", "│  ", "   ", "…")
ASCII = Strokes("|- ", "`- ", "|  ", "   ", "...")


def strokes() -> Strokes:
    """Box characters where the output can show them, and ASCII otherwise."""
    try:
        (BOXES.one + BOXES.last + BOXES.below + BOXES.again).encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return ASCII
    return BOXES


def observed(edges: Iterable[Edge], mesh: Mesh) -> frozenset[str]:
    """Those who are called and whose denials are not carried out."""
    called = {edge.target for edge in edges}
    return frozenset(name for name in called if mesh.mode(mesh.targets[name]) is Mode.OBSERVE)


def tree(reach: Reach, mesh: Mesh, how: Strokes) -> Iterator[str]:
    """A line for each branch. Dots say that what is below a name is shown elsewhere in the tree."""
    watched, margins = observed(reach.edges, mesh), list[str]()
    for branch in reach.tree:
        del margins[max(0, branch.depth - 1) :]
        mark = "" if branch.edge is None else how.last if branch.last else how.one
        notes = (" (observed)" if branch.name in watched else "") + (f" {how.again}" if branch.again else "")
        said = f"  {visible(edge_text(branch.edge.rules))}" if branch.edge is not None else ""
        yield "".join(margins) + mark + style(branch.name, bold=True) + notes + said
        if branch.edge is not None:
            margins.append(how.below_last if branch.last else how.below)


def mermaid(edges: Sequence[Edge], mesh: Mesh) -> Iterator[str]:
    """A Mermaid flowchart, line by line: workloads in their segments, observed ones dashed, places outside rounded."""
    ids = {name: f"n{index}" for index, name in enumerate(_names(edges))}
    yield "flowchart LR"
    for index, (segment, names) in enumerate(_by_segment(ids, mesh)):
        yield f'  subgraph s{index}["{_entities(segment)}"]'
        yield from (f'    {ids[name]}["{_entities(name)}"]' for name in names)
        yield "  end"
    yield from (f'  {ids[name]}(["{_entities(name)}"])' for name in ids if name not in mesh.workloads)
    for edge in edges:
        yield f'  {ids[edge.caller]} -->|"{_entities(edge_text(edge.rules))}"| {ids[edge.target]}'
    watched = observed(edges, mesh)
    if watched:
        yield "  classDef observed stroke-dasharray: 4 4"
        yield f"  class {','.join(ids[name] for name in ids if name in watched)} observed"


def dot(edges: Sequence[Edge], mesh: Mesh) -> Iterator[str]:
    """A DOT digraph, line by line: workloads in their segments, observed ones dashed, places outside rounded."""
    names, watched = _names(edges), observed(edges, mesh)
    dashed = {name: " [style=dashed]" if name in watched else "" for name in names}
    yield f"digraph {_quoted(mesh.name)} {{"
    yield "  rankdir=LR"
    yield "  node [shape=box]"
    for index, (segment, inside) in enumerate(_by_segment(names, mesh)):
        yield f"  subgraph cluster_{index} {{"
        yield f"    label={_quoted(segment)}"
        yield from (f"    {_quoted(name)}{dashed[name]}" for name in inside)
        yield "  }"
    for name in names:
        if name not in mesh.workloads:
            yield f"  {_quoted(name)} [shape=ellipse]{dashed[name]}"
    for edge in edges:
        yield f"  {_quoted(edge.caller)} -> {_quoted(edge.target)} [label={_quoted(edge_text(edge.rules))}]"
    yield "}"


def _names(edges: Sequence[Edge]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for edge in edges for name in (edge.caller, edge.target)))


def _by_segment(names: Iterable[str], mesh: Mesh) -> list[tuple[str, list[str]]]:
    """The workloads among the names, by segment."""
    found: dict[str, list[str]] = {}
    for name in names:
        target = mesh.targets[name]
        if isinstance(target, Workload):
            found.setdefault(target.segment, []).append(name)
    return list(found.items())


def _quoted(text: str) -> str:
    """A quoted ID of DOT, in which only a quote and, in labels, a backslash mean something else."""
    escaped = visible(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# What means something in a quoted text of Mermaid, or in the HTML that comes of it, as entity codes.
_ENTITIES = str.maketrans({character: f"#{ord(character)};" for character in '#"<>&\\`'})


def _entities(text: str) -> str:
    return visible(text).translate(_ENTITIES)
