"""`septum demo`: the shop behind Septum, watched live, with a rule that goes and comes back."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING

import click

from septum.audit.query import Filter
from septum.audit.schema import FILE
from septum.cli.output import console, style
from septum.cli.shop import RULE, DemoError, Shop, running

if TYPE_CHECKING:
    from rich.console import RenderableType

# Seconds between two changes of the rule in the live view.
PERIOD = 8.0

# Calls that the shop makes, and that its policy allows: what is said of each, caller, target.
EXPECTED = (
    ("customers look at the catalog (HTTP, Node)", "storefront", "catalog"),
    ("customers ask for orders (HTTP)", "storefront", "orders"),
    ("orders are paid (gRPC)", "orders", "payments"),
    ("orders are kept (TCP, server speaks first)", "orders", "ledger"),
    ("the catalog asks what sells (Node's fetch)", "catalog", "orders"),
)
# What `reports` tries and must not get, and the record of it.
REFUSED = (
    ("reads the ledger", Filter(caller="reports", target="ledger", decision="deny")),
    ("authorises a payment", Filter(caller="reports", target="payments", decision="deny")),
    (
        "opens the orders' admin page",
        Filter(caller="reports", target="orders", decision="deny", status=403, path="/admin"),
    ),
)


@click.command(epilog="\b\nExamples:\n  septum demo\n  septum demo --once")
@click.option(
    "--once", is_flag=True, help="Go through it once without a live view; exit status 1 if anything is amiss."
)
def command(once: bool) -> int:
    """Run the example shop behind Septum: six services, one caller that misbehaves, one rule that changes.

    Everything runs on this machine's loopback, in a directory that is removed again. Ctrl-C ends it.
    """
    began = time.monotonic()
    try:
        with running(lambda text: _say(began, text)) as shop:
            _prove(shop, began)
            if not once and sys.stdout.isatty():
                _watch(shop)
    except DemoError as error:
        click.echo(style("not as promised: ", fg="red") + str(error), err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("\nended; nothing is left running")
        return 0
    _say(began, style("all as promised", fg="green"))
    return 0


def _say(began: float, text: str) -> None:
    click.echo(f"{time.monotonic() - began:6.1f} s  {text}")


def _prove(shop: Shop, began: float) -> None:
    """Each promise once, with the record that shows it."""
    for what, caller, target in EXPECTED:
        row = shop.wait_for(what, Filter(caller=caller, target=target, decision="allow", status=200))
        _say(began, f"{style('allow', fg='green')}  {what}: rule {row.record.rule}")
    refused, said = shop.misbehave()
    if not refused:
        raise DemoError(f"reports got through:\n{said}")
    for what, asked in REFUSED:
        row = shop.wait_for(what, asked)
        _say(began, f"{style('deny', fg='red')}   reports {what}: {row.record.reason}")
    for text in _change(shop):
        _say(began, text)


def _change(shop: Shop) -> list[str]:
    """Take the rule out and put it back."""
    texts = []
    for remove in (True, False):
        changed = shop.change_rule(remove=remove)
        verb = "removed" if remove else "put back"
        verdict = "denied" if remove else "allowed"
        texts.append(
            f"rule {RULE} {verb}: first call {verdict} {changed.enforced:.1f} ms after apply was called, held after "
            f"{changed.held:.1f} ms ({changed.resources} resource sent)"
        )
    return texts


def _watch(shop: Shop) -> None:
    """The paths in use, live, with the rule going and coming."""
    from rich.live import Live

    from septum.cli.top import Source
    from septum.cli.traffic_table import Space

    shop.keep_misbehaving()
    source = Source(shop.state / "records" / FILE, 30, "rate")
    lines: deque[str] = deque(maxlen=4)
    screen, removed, next_change = console(), False, time.monotonic() + PERIOD

    def render() -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        table = source.view(Space(screen.width, screen.height - 7))
        return Group(table, Text("\n" + "\n".join(lines)), Text("\nCtrl-C ends the demo", style="dim"))

    with Live(render(), console=screen, screen=True, auto_refresh=False) as live:
        while True:
            if time.monotonic() >= next_change:
                removed = not removed
                changed = shop.change_rule(remove=removed)
                what = "removed, so the storefront is denied" if removed else "put back, so it is allowed again"
                clock = time.strftime("%H:%M:%S")
                lines.append(f"{clock}  rule {RULE} {what}: enforced {changed.enforced:.1f} ms after apply was called")
                next_change = time.monotonic() + PERIOD
            live.update(render(), refresh=True)
            time.sleep(0.5)
