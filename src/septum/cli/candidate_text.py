"""A candidate in one line."""

from __future__ import annotations

from typing import Any

from septum.cli.moment import ago


def candidate_line(candidate: dict[str, Any], now: float) -> str:
    """Which candidate is asked, about what, by whom and since when."""
    about = "all targets" if candidate["targets"] is None else ", ".join(candidate["targets"])
    who = f"proposed by {candidate['author']} {ago(candidate['since'], now)}"
    moved = "; something else is enforced by now than then" if candidate["moved"] else ""
    return f"candidate {candidate['version'][:12]} is asked about {about}, {who}{moved}"
