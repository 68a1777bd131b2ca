"""`septum top`: the paths in use, live."""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from septum.audit.query import Filter, Reader
from septum.audit.schema import FILE, StoreUnavailable, WrongVersion
from septum.audit.traffic import PathRow, Traffic
from septum.cli.output import console
from septum.cli.place import mesh_dir, state_dir
from septum.cli.traffic_table import Space, view

if TYPE_CHECKING:
    from rich.console import RenderableType


_SORTS: dict[str, Callable[[PathRow], tuple[object, ...]]] = {
    "rate": lambda row: (-row.rate,),
    "allowed": lambda row: (-row.allowed,),
    "denied": lambda row: (-row.denied, -row.would_be_denied),
    "would-deny": lambda row: (-row.would_be_denied, -row.denied),
    "p50": lambda row: (-(row.p50 or 0),),
    "p99": lambda row: (-(row.p99 or 0),),
    "last": lambda row: (-row.last,),
    "caller": lambda row: (row.caller, row.target),
    "target": lambda row: (row.target, row.caller),
}


@click.command(
    epilog="\b\nExamples:\n  septum top\n  septum top --sort denied --window 300\n  septum top --json | jq .paths"
)
@click.option("--window", type=click.IntRange(1, 3600), default=60, show_default=True, help="Seconds that are counted.")
@click.option("--sort", type=click.Choice(list(_SORTS)), default="rate", show_default=True, help="What comes first.")
@click.option("--once", is_flag=True, help="Print the view once; so it is without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print the view once, as JSON.")
@click.pass_obj
def command(above: Path | None, window: int, sort: str, once: bool, as_json: bool) -> int:
    """Watch the paths in use: who calls whom for what, allowed and denied, rate and latency. `q` leaves."""
    mesh = mesh_dir(above)
    path = state_dir(mesh) / "records" / FILE
    source = Source(path, window, sort)
    try:
        if as_json:
            click.echo(json.dumps(source.json(), indent=2))
        elif once or not sys.stdout.isatty():
            screen = console()
            screen.print(source.view(Space(screen.width)))
        else:
            _live(source)
    except (StoreUnavailable, WrongVersion) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        pass
    return 0


class Source:
    """The window over the record file; the file may come into being later."""

    def __init__(self, path: Path, window: int, sort: str) -> None:
        self._path, self._window, self._sort = path, window, sort
        self._reader: Reader | None = None
        self._seen = 0
        self.traffic = Traffic(window)

    def rows(self) -> list[PathRow]:
        """The paths as they are now, sorted."""
        self._read()
        return sorted(self.traffic.rows(time.time()), key=_SORTS[self._sort])

    def view(self, space: Space) -> RenderableType:
        """The same for people."""
        rows = self.rows()
        return view(rows, self.traffic.policy_version, self._window, time.time(), space)

    def json(self) -> dict[str, object]:
        """The same for programs."""
        paths = [asdict(row) for row in self.rows()]
        return {"window": self._window, "policy_version": self.traffic.policy_version, "paths": paths}

    def _read(self) -> None:
        if self._reader is None:
            if not self._path.exists():
                return
            self._reader = Reader(self._path)
            self._seen = self._reader.before(time.time() - self._window)
        while rows := self._reader.after(self._seen, Filter()):
            self._seen = rows[-1].seq
            self.traffic.add(row.record for row in rows)


def _live(source: Source) -> None:
    from rich.live import Live

    screen = console()

    def render() -> RenderableType:
        return source.view(Space(screen.width, screen.height))

    live = Live(render(), console=screen, screen=True, auto_refresh=False)
    with _keys() as pressed:
        try:
            live.start(refresh=True)
            while not pressed(1.0):
                live.update(render(), refresh=True)
        finally:  # not `with live`: a Ctrl-C while it starts would leave the terminal on its other screen
            live.stop()


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Keys without Enter. Yields a wait of so many seconds that says whether `q` was pressed in them."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield _sleep
        return
    before = termios.tcgetattr(sys.stdin)

    def pressed(seconds: float) -> bool:
        end = time.monotonic() + seconds
        while select.select([sys.stdin], [], [], max(0.0, end - time.monotonic()))[0]:
            if sys.stdin.read(1) in ("q", "Q", ""):
                return True
        return False

    try:
        tty.setcbreak(sys.stdin)
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
