"""Nodes as a table, for `status` and `nodes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from septum.cli.moment import ago, until

if TYPE_CHECKING:
    from rich.table import Table

_TONES = {
    "held": "green",
    "refused": "red",
    "missing": "yellow",
    "removed": "dim",
    "draining": "yellow",
    "drained": "dim",
}


def node_table(nodes: list[dict[str, Any]], now: float) -> Table:
    """One row a node: what it was told, what it holds, when it was heard, until when its certificates are good."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("node", "state", "holds", "resources", "last seen", "certificates", "records", "trouble"):
        table.add_column(title, no_wrap=title != "trouble")
    for node in nodes:
        state = state_of(node)
        table.add_row(
            node["node"],
            Text(state, style=_TONES.get(state, "")),
            (node["version"] or "-")[:12],
            f"{node['resources_held']}/{node['resources']}",
            "now" if node["connected"] else ago(node["last_seen"], now),
            until(node["certificate_end"], now),
            _records(node["records"]),
            trouble(node),
        )
    return table


def state_of(node: dict[str, Any]) -> str:
    """One word for how a node stands."""
    if node["standing"] in ("removed", "draining"):
        return "drained" if node["drained"] else str(node["standing"])
    if node["rejected"]:
        return "refused"
    return "held" if node["held"] else "missing"


def trouble(node: dict[str, Any]) -> str:
    """What a person should look at, or nothing."""
    said = [f"{refusal['name']}: {refusal['reason'].strip()}" for refusal in node["rejected"]]
    if not node["connected"] and node["standing"] != "removed":
        said.append("not connected" if node["last_seen"] else "never seen")
    return "; ".join([*said, *node["troubles"]])


def _records(records: dict[str, Any]) -> str:
    if records.get("lost"):
        return f"{records['lost']} lost"
    if records.get("stalled"):
        return "stalled"
    behind = int(records.get("behind") or 0)
    return f"{behind // 1024} KiB behind" if behind > 65536 else "up to date" if records else "-"
