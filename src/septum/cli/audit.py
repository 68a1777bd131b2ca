"""`septum audit`: the record of decisions."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from septum.audit.query import DIFFERS, Filter, Reader, Row
from septum.audit.schema import FILE, StoreUnavailable, WrongVersion
from septum.cli.moment import MOMENT
from septum.cli.place import mesh_dir, state_dir
from septum.cli.record_lines import Layout

_POLL = 0.1
_PAGE = 1000


@click.command(
    epilog="\b\nExamples:\n  septum audit --denied --since 10m\n  septum audit --from storefront --to orders -f\n"
    "  septum audit --would-deny --json | jq -r .reason"
)
@click.option("--from", "--caller", "caller", metavar="WORKLOAD", help="Calls of this workload.")
@click.option("--to", "--target", "target", metavar="WORKLOAD", help="Calls to this workload.")
@click.option("--denied", is_flag=True, help="What was denied.")
@click.option("--allowed", is_flag=True, help="What passed.")
@click.option("--would-deny", is_flag=True, help="What passed only because its target is observed.")
@click.option(
    "--candidate", type=click.Choice(["allow", "deny", DIFFERS]), help="What a candidate (`septum shadow`) said of it."
)
@click.option("--rule", metavar="NAME", help="What this rule allowed, or was nearest to allowing.")
@click.option("--status", type=click.IntRange(0, 999), metavar="CODE", help="Answers with this HTTP status.")
@click.option("--path", metavar="TEXT", help="Paths that contain this text.")
@click.option(
    "--subject", "jwt_subject", metavar="TEXT", help="Requests with a verified token of this end user (`sub`)."
)
@click.option("--request-id", metavar="ID", help="The request with this x-request-id.")
@click.option("--trace-id", metavar="ID", help="The requests of this trace.")
@click.option("--since", type=MOMENT, help="From then on: 10m, 2h, 7d or an ISO date and time.")
@click.option("--until", type=MOMENT, help="Before then.")
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most this many, the newest."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--count", is_flag=True, help="Only say how many there are.")
@click.pass_obj
def command(
    above: Path | None, /, denied: bool, allowed: bool, would_deny: bool, limit: int, follow: bool, as_json: bool,
    count: bool, **asked: Any,
) -> int:  # fmt: skip
    """Show recorded decisions, the newest last: who asked whom for what, the outcome, and the rule or what was missing.

    Works while Septum runs and after. Filters add up.
    """
    if (allowed and denied) or (count and follow):
        raise click.UsageError("--allowed with --denied, and --count with --follow, exclude each other")
    filter = Filter(**_decision(denied, allowed, would_deny), **asked)
    path = state_dir(mesh_dir(above)) / "records" / FILE
    try:
        reader = _open(path, wait=follow)
        if reader is None:
            click.echo(
                "No decisions are on record yet. Start Septum (`septum up`) and send a request through it.", err=True
            )
        elif count:
            click.echo(reader.count(filter))
        else:
            _show(reader, filter, limit, follow, as_json)
    except (StoreUnavailable, WrongVersion) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo(err=True)
    return 0


def _decision(denied: bool, allowed: bool, would_deny: bool) -> dict[str, Any]:
    """`--denied --would-deny` together ask for all that the policy does not allow."""
    if would_deny:
        return {"would_be": "deny"} if denied else {"would_be": "deny", "decision": "allow"}
    return {"decision": "deny"} if denied else {"decision": "allow"} if allowed else {}


def _open(path: Path, *, wait: bool) -> Reader | None:
    while not path.exists():
        if not wait:
            return None
        time.sleep(_POLL)
    return Reader(path)


def _show(reader: Reader, asked: Filter, limit: int, follow: bool, as_json: bool) -> None:
    layout = Layout(shutil.get_terminal_size().columns if sys.stdout.isatty() else None, time.time())
    shown = False
    for rows in _pages(reader, asked, limit, follow):
        lines = [_json(row) for row in rows] if as_json else layout.lines([row.record for row in rows])
        if lines:
            click.echo("\n".join(lines))
            sys.stdout.flush()
            shown = True
    if not shown:
        click.echo("No record matches." if reader.last() else "No decisions are on record yet.", err=True)


def _pages(reader: Reader, asked: Filter, limit: int, follow: bool) -> Iterator[list[Row]]:
    seen = reader.last()
    rows = reader.newest(asked, limit)
    yield rows
    while follow:
        seen = max(seen, rows[-1].seq if rows else 0)
        there = reader.last()
        rows = reader.after(seen, asked, _PAGE)
        if len(rows) < _PAGE:
            seen = max(seen, there)  # nothing more matches up to there
        if rows:
            yield rows
        else:
            time.sleep(_POLL)


def _json(row: Row) -> str:
    fields = row.record._asdict() | {"time": datetime.fromtimestamp(row.record.time, UTC).isoformat()}
    return json.dumps({"seq": row.seq} | fields, ensure_ascii=False)
