"""How things are printed: colour only where it is wanted, JSON as one value, a spinner only for what takes long."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

# Columns of a table that nobody sees: a program reads it.
_WIDE = 400
_TURNS = "|/-\\"


def wants_colour(stream: Any = None) -> bool:
    """Whether to colour: a terminal that can, and NO_COLOR unset or empty (no-color.org)."""
    unwanted = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not unwanted and (stream or sys.stdout).isatty()


def style(text: str, **how: Any) -> str:
    """The text in a style, where colour is wanted."""
    return click.style(text, **how) if wants_colour() else text


def console() -> Console:
    """A rich console for tables, that cuts nothing off without a terminal; imported late, because that costs time."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def print_json(value: Any) -> None:
    """One JSON value, indented, for programs."""
    click.echo(json.dumps(value, indent=2, default=str))


@contextmanager
def spinner(text: str, after: float = 1.0) -> Iterator[None]:
    """Show that something is going on, on a terminal, when it takes longer than `after` seconds."""
    done = threading.Event()

    def turn() -> None:
        if done.wait(after):
            return
        for step in range(1 << 30):
            click.echo(f"\r{_TURNS[step % 4]} {text}", nl=False, err=True)
            if done.wait(0.1):
                click.echo("\r\033[K", nl=False, err=True)
                return

    thread = threading.Thread(target=turn, daemon=True) if sys.stderr.isatty() else None
    if thread:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread:
            thread.join()


def refusals(refused: list[dict[str, Any]]) -> list[str]:
    """Which resources were refused and why, each reason once."""
    names: dict[str, list[str]] = {}
    for refusal in refused:
        names.setdefault(refusal["reason"].strip(), []).append(refusal["name"])
    return [f"{', '.join(of)}: {reason}" for reason, of in names.items()]
