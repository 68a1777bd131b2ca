"""What `up`, `control` and `node` share: running processes in the foreground, and telling what happens to them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from septum.cli import diagnostics
from septum.cli.output import style, wants_colour
from septum.control.files import read_mesh_dir
from septum.node.binary import MissingEnvoyError
from septum.node.lock import AlreadyRunningError, hold
from septum.policy.load import load

if TYPE_CHECKING:
    from septum.node.process import Spec

Tell = Callable[[str, Mapping[str, object]], None]

LOG_FORMAT = click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", help="How events are printed."
)
METRICS = click.option(
    "--metrics", metavar="HOST:PORT", help="Serve /metrics, /healthz and /readyz there; nowhere otherwise."
)
LISTEN = click.option(
    "--listen", metavar="HOST:PORT", help="Where agents of other hosts reach the control plane (mTLS)."
)


def telling(log_format: str) -> Tell:
    """How an event is printed: as a line for people, or as one of JSON."""
    return _json_line if log_format == "json" else _text_line


def node_name(given: str | None) -> str:
    """A name as a node may be called: the given one, or this host's."""
    return re.sub(r"[^a-z0-9-]", "-", (given or socket.gethostname()).lower())


def make_state(state: Path) -> None:
    """The directories of a state. Raises ClickException where they cannot be had."""
    try:
        for directory in (state, state / "records"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (state / ".gitignore").write_text("*\n")
    except OSError as error:
        raise click.ClickException(f"the state cannot be written: {error.filename}: {error.strerror}") from error


def check_files(mesh: Path, state: Path) -> None:
    """Say what is wrong with a mesh's files. Raises ClickException when there is no enforced version to go on with."""
    files = read_mesh_dir(mesh)
    loaded = load(files)
    if loaded.diagnostics:
        click.echo(diagnostics.as_text(loaded.diagnostics, files, colour=wants_colour()) + "\n", err=True)
    if loaded.policy is None and not (state / "state.db").exists():
        raise click.ClickException(f"nothing is started: {diagnostics.count(loaded.diagnostics)}")


def write_bootstrap(state: Path, mesh: str, node: str) -> None:
    """In a process of its own, so that the supervisor stays small: protobuf and the xDS messages are 40 MB."""
    command = [sys.executable, "-m", "septum.envoy.bootstrap", node, mesh, str(state / "envoy.pb")]
    subprocess.run(command, check=True)


def run(
    state: Path, lock: str, specs: Callable[[], Sequence[Spec]], announce: Callable[[Tell], Awaitable[None]], tell: Tell
) -> int:
    """Run processes until Ctrl-C, one supervisor a state directory. `announce` is awaited once all were started."""
    from septum.node.supervisor import supervise

    async def until_stopped(children: Sequence[Spec]) -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) means to stay
                asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await supervise(children, tell, stopping, lambda: announce(tell))
        tell("stopped", {})

    try:
        with hold(state / lock):
            asyncio.run(until_stopped(specs()))
    except AlreadyRunningError as error:
        raise click.ClickException(f"{state.parent}: {error}") from error
    except MissingEnvoyError as error:
        raise click.ClickException(str(error)) from error
    return 0


def module(name: str, *arguments: str) -> list[str]:
    """The command line of a Python module of ours."""
    return [sys.executable, "-m", name, *arguments]


def _json_line(event: str, fields: Mapping[str, object]) -> None:
    click.echo(json.dumps({"event": event, **fields}))


_TONES: dict[str, Any] = {
    "ready": "green", "joined": "green", "killed": "red",
    "ended": "yellow", "not enforced yet": "yellow", "waiting": "yellow",
}  # fmt: skip


def _text_line(event: str, fields: Mapping[str, object]) -> None:
    tone = _TONES.get(event)
    shown = "  ".join(f"{name}={value}" for name, value in fields.items())
    click.echo(f"{style(event, fg=tone, bold=tone is not None)}  {shown}".rstrip())


def inherited() -> Mapping[str, str]:
    """The environment that children get."""
    return os.environ
