"""`septum up`: the control plane, an agent and Envoy as one process tree, in the foreground."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from septum.cli import running
from septum.cli.place import mesh_dir, state_dir
from septum.cli.running import LISTEN, LOG_FORMAT, METRICS, Tell
from septum.control import api
from septum.control.files import read_mesh_dir
from septum.node.binary import find_envoy
from septum.policy.load import load

if TYPE_CHECKING:
    from septum.node.process import Spec


@click.command(
    epilog="\b\nExamples:\n  septum up\n  septum up examples/shop --watch\n"
    "  septum up --listen 10.0.0.11:7400 --node web-1"
)
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--watch", is_flag=True, help="Apply the files whenever they change. Otherwise only `septum apply` does.")
@click.option("--node", default=None, metavar="NAME", help="Which node this machine is; the host's name otherwise.")
@LISTEN
@METRICS
@click.option("--concurrency", default=2, show_default=True, metavar="N", help="Envoy's worker threads.")
@LOG_FORMAT
@click.pass_obj
def command(
    above: Path | None,
    directory: Path | None,
    watch: bool,
    node: str | None,
    listen: str | None,
    metrics: str | None,
    concurrency: int,
    log_format: str,
) -> int:
    """Start a control plane, an agent and Envoy for the mesh in DIRECTORY, and keep them running until Ctrl-C.

    What was enforced last stays enforced; the first time, the files of the directory are. With --listen, other hosts
    join with `septum node`. Exit status 1 when the files have errors or the mesh is up already.
    """
    mesh = mesh_dir(directory or above)
    state, name = state_dir(mesh), running.node_name(node)
    running.make_state(state)
    running.check_files(mesh, state)
    _check_name(mesh, name)
    given = (
        ("--watch",) if watch else (),
        ("--listen", listen) if listen else (),
        ("--metrics", metrics) if metrics else (),
    )
    control = running.module(
        "septum.app.control", str(mesh), "--node", name, *(word for words in given for word in words)
    )
    agent = running.module("septum.app.agent", "--node", name, "--control", "unix:agents.sock")

    def specs() -> Sequence[Spec]:
        from septum.node.supervisor import agent_spec, control_spec, envoy_spec

        binary = find_envoy()
        for socket in ("xds.sock", "agents.sock"):
            (state / socket).unlink(missing_ok=True)
        running.write_bootstrap(state, mesh.name, name)
        environment = running.inherited()
        return (
            control_spec(state, control, environment),
            agent_spec(state, agent, environment),
            envoy_spec(state, binary, name, concurrency),
        )

    return running.run(state, "up.lock", specs, lambda tell: announce(state, tell, name), running.telling(log_format))


def _check_name(mesh: Path, node: str) -> None:
    """In a mesh that lists its nodes, this machine is one of them."""
    policy = load(read_mesh_dir(mesh)).policy
    nodes = policy.mesh.nodes if policy else {}
    if nodes and node not in nodes:
        known = ", ".join(nodes)
        raise click.UsageError(f"the mesh has no node `{node}`; say which one this machine is: --node NAME ({known})")


async def announce(state: Path, tell: Tell, only: str | None) -> None:
    """Say so when this machine's node holds its snapshot; without one, when the control plane answers."""
    answer = None
    while answer is None:
        try:
            answer = await asyncio.to_thread(api.call, state, "ready", 30.0, node=only, patience=10.0)
        except api.NotRunningError:
            await asyncio.sleep(0.05)
    if answer.get("unused"):
        tell("not enforced yet", {"why": answer["unused"], "help": "septum history, then septum apply"})
        return
    for node in answer["nodes"]:
        if node["arrived"] == "held":
            tell("ready", {"node": node["node"], "resources": node["resources"], "pid": os.getpid()})
        else:
            refused = [f"{refusal['name']}: {refusal['reason'].strip()}" for refusal in node["refusals"]]
            tell("not enforced yet", {"node": node["node"], "why": node["why"], "refused": refused})
    if only is None:
        tell("ready", {"pid": os.getpid()})
