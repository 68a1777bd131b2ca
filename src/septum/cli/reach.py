"""`septum reach`: who can reach what, through whom."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from septum.cli import drawing
from septum.cli.edge_text import rule_json
from septum.cli.named import callers_named, targets_named
from septum.cli.output import print_json
from septum.cli.place import mesh_dir
from septum.cli.valid_policy import valid_policy
from septum.model.mesh import Mesh
from septum.verify.reach import Edge, Reach, reach


@click.command(
    epilog="\b\nExamples:\n  septum reach storefront\n  septum reach storefront ledger\n"
    "  septum reach --to segment:pci\n  septum reach segment:edge --direct\n"
    "  septum reach --to ledger --format mermaid > reach.mmd"
)
@click.argument("caller", metavar="FROM", required=False)
@click.argument("target", metavar="[TO]", required=False)
@click.option("--to", "reached", metavar="TO", help="Who reaches TO; with FROM, the same as a second argument.")
@click.option("--direct", is_flag=True, help="Leave out what is reached through others.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "mermaid", "dot", "json"]),
    default="tree",
    help="A tree, or a drawing for a page (Mermaid, Graphviz), or JSON.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.pass_obj
def command(
    above: Path | None,
    caller: str | None,
    target: str | None,
    reached: str | None,
    direct: bool,
    form: str,
    as_json: bool,
) -> int:
    """Show what FROM can reach by what the rules allow, through whom, and what may be asked on the way.

    FROM and TO are a workload or segment:NAME; TO may be a place outside. With both: all shortest chains, and exit
    status 1 when there is none. A rule whose time is to come counts, one whose time is over does not. After a name,
    dots say that what is below it is shown elsewhere in the tree.
    """
    if target is not None and reached is not None:
        raise click.UsageError("TO is given twice")
    to = reached if target is None else target
    if caller is None and to is None:
        raise click.UsageError("name whose reach it is: septum reach FROM, or septum reach --to TO")
    policy = valid_policy(mesh_dir(above), "there is no telling who reaches what")
    now = time.time()
    starts = () if caller is None else callers_named(caller, policy.mesh)
    ends = () if to is None else targets_named(to, policy.mesh)
    found = reach(policy, now, starts, ends, direct=direct)
    if as_json or form == "json":
        print_json(_json(found, policy.mesh))
    else:
        _draw(found, policy.mesh, form, caller, to)
    return 1 if to is not None and not found.found else 0


def _draw(found: Reach, mesh: Mesh, form: str, caller: str | None, to: str | None) -> None:
    match form:
        case "mermaid":
            lines = list(drawing.mermaid(found.edges, mesh))
        case "dot":
            lines = list(drawing.dot(found.edges, mesh))
        case _:
            lines = list(drawing.tree(found, mesh, drawing.strokes())) if found.found else []
            lines.append(_summary(found, caller, to))
            if drawing.observed(found.edges, mesh):
                lines.append("what is observed takes calls from everyone; this is what the rules allow")
    click.echo("\n".join(lines))


def _summary(found: Reach, caller: str | None, to: str | None) -> str:
    """What the tree comes to, in a line."""
    if caller is not None and to is not None:
        return f"{caller} {'reaches' if found.found else 'cannot reach'} {to}"
    if caller is not None:
        count, direct = _counts(found, [edge.target for edge in found.edges], set(found.callers))
        return f"{caller} reaches {f'{count} ({direct} directly)' if count else 'nobody'}"
    count, direct = _counts(found, [edge.caller for edge in found.edges], set(found.targets))
    return f"{to} is reached by {f'{count} ({direct} directly)' if count else 'nobody'}"


def _counts(found: Reach, names: list[str], roots: set[str]) -> tuple[int, int]:
    """How many are reached beside the roots, and how many by one call."""
    near = {branch.name for branch in found.tree if branch.depth == 1}
    return len(set(names) - roots), len(near - roots)


def _json(found: Reach, mesh: Mesh) -> dict[str, Any]:
    return {
        "from": found.callers,
        "to": found.targets,
        "reached": found.found,
        "calls": [_call(edge, mesh) for edge in found.edges],
    }


def _call(edge: Edge, mesh: Mesh) -> dict[str, Any]:
    return {
        "caller": edge.caller,
        "target": edge.target,
        "mode": mesh.mode(mesh.targets[edge.target]),
        "rules": [rule_json(rule) for rule in edge.rules],
    }
