"""`septum up`: the control plane and Envoy as one process tree, in the foreground."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from septum.cli import diagnostics
from septum.cli.output import refusals, style, wants_colour
from septum.cli.place import mesh_dir, state_dir
from septum.control import api
from septum.control.files import read_mesh_dir
from septum.node.binary import MissingEnvoyError, find_envoy
from septum.node.lock import AlreadyRunningError, hold
from septum.policy.load import load

Tell = Callable[[str, Mapping[str, object]], None]


@click.command(epilog="\b\nExamples:\n  septum up\n  septum up examples/shop --watch")
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--watch", is_flag=True, help="Apply the files whenever they change. Otherwise only `septum apply` does.")
@click.option("--node", default=None, metavar="NAME", help="The node's name in records; the host's name otherwise.")
@click.option("--concurrency", default=2, show_default=True, metavar="N", help="Envoy's worker threads.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="How events are printed.")
@click.pass_obj
def command(
    above: Path | None, directory: Path | None, watch: bool, node: str | None, concurrency: int, log_format: str
) -> int:
    """Start the control plane and Envoy for the mesh in DIRECTORY, and keep them running until Ctrl-C.

    What was enforced last stays enforced; the first time, the files of the directory are. Exit status 1 when the files
    have errors or the mesh is up already.
    """
    mesh = mesh_dir(directory or above)
    _prepare(mesh)
    name = re.sub(r"[^a-z0-9-]", "-", (node or socket.gethostname()).lower())
    tell = _json_line if log_format == "json" else _text_line
    arguments = [sys.executable, "-m", "septum.app", str(mesh), name, *(["--watch"] if watch else [])]
    try:
        binary = find_envoy()
        with hold(state_dir(mesh) / "up.lock"):
            return asyncio.run(_run(mesh, name, binary, concurrency, arguments, tell))
    except AlreadyRunningError as error:
        raise click.ClickException(f"{mesh}: {error}") from error
    except MissingEnvoyError as error:
        raise click.ClickException(str(error)) from error


def _prepare(mesh: Path) -> None:
    """The state directory, and valid files where there is no enforced version to go on with."""
    state = state_dir(mesh)
    try:
        for directory in (state, state / "records"):
            directory.mkdir(mode=0o700, exist_ok=True)
        (state / ".gitignore").write_text("*\n")
    except OSError as error:
        raise click.ClickException(f"the state cannot be written: {error.filename}: {error.strerror}") from error
    files = read_mesh_dir(mesh)
    loaded = load(files)
    if loaded.diagnostics:
        click.echo(diagnostics.as_text(loaded.diagnostics, files, colour=wants_colour()) + "\n", err=True)
    if loaded.policy is None and not (state / "state.db").exists():
        raise click.ClickException(f"nothing is started: {diagnostics.count(loaded.diagnostics)}")


async def _run(mesh: Path, node: str, binary: Path, concurrency: int, arguments: list[str], tell: Tell) -> int:
    from septum.node.supervisor import control_spec, envoy_spec, supervise

    state, stopping = state_dir(mesh), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) means to stay
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    (state / "xds.sock").unlink(missing_ok=True)
    control = control_spec(state, arguments, os.environ)
    envoy = envoy_spec(state, binary, node, concurrency)
    await asyncio.to_thread(_write_bootstrap, state, mesh.name, node)
    await supervise(control, envoy, tell, stopping, lambda: _announce(state, tell))
    tell("stopped", {})
    return 0


def _write_bootstrap(state: Path, mesh: str, node: str) -> None:
    """In a process of its own, so that the supervisor stays small: protobuf and the xDS messages are 40 MB."""
    import subprocess

    subprocess.run([sys.executable, "-m", "septum.envoy.bootstrap", node, mesh, str(state / "envoy.pb")], check=True)


async def _announce(state: Path, tell: Tell) -> None:
    """Say so when the node holds its snapshot."""
    status = None
    while status is None:
        try:
            status = await asyncio.to_thread(api.call, state, "ready", 30.0, patience=10.0)
        except api.NotRunningError:
            await asyncio.sleep(0.05)
    if status["held_version"] is not None and status["held_version"] == status["desired_version"]:
        tell("ready", {"node": status["node"], "resources": status["resources"], "pid": os.getpid()})
    else:
        refused = [line.strip() for line in refusals(status["rejected"])]
        tell("not enforced yet", {"node": status["node"], "connected": status["connected"], "refused": refused})


def _json_line(event: str, fields: Mapping[str, object]) -> None:
    click.echo(json.dumps({"event": event, **fields}))


def _text_line(event: str, fields: Mapping[str, object]) -> None:
    tone = {"ready": "green", "ended": "yellow", "killed": "red", "not enforced yet": "yellow"}.get(event)
    shown = "  ".join(f"{name}={value}" for name, value in fields.items())
    click.echo(f"{style(event, fg=tone, bold=tone is not None)}  {shown}".rstrip())
