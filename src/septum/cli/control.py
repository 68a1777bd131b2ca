"""`septum control`: the control plane of a mesh of many nodes, in the foreground."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from septum.cli import running
from septum.cli.place import mesh_dir, state_dir
from septum.cli.running import LOG_FORMAT, METRICS
from septum.cli.up import announce
from septum.control.files import read_mesh_dir
from septum.policy.load import load

if TYPE_CHECKING:
    from septum.node.process import Spec


@click.command(epilog="\b\nExamples:\n  septum control --listen 10.0.0.10:7400\n  septum nodes token web-1")
@click.option(
    "--listen", default="0.0.0.0:7400", show_default=True, metavar="HOST:PORT",
    help="Where agents reach the control plane; mTLS only.",
)  # fmt: skip
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST",
    help="Another name or address in its certificate; may be repeated.",
)
@METRICS
@click.option("--watch", is_flag=True, help="Apply the files whenever they change. Otherwise only `septum apply` does.")
@LOG_FORMAT
@click.pass_obj
def command(
    above: Path | None, listen: str, names: tuple[str, ...], metrics: str | None, watch: bool, log_format: str
) -> int:
    """Run the control plane of the mesh: it keeps the state, signs certificates, and drives every node.

    The first start makes an authority (`septum ca init` chooses how). Nodes join with a token: `septum nodes token`.
    """
    mesh = mesh_dir(above)
    state = state_dir(mesh)
    running.make_state(state)
    running.check_files(mesh, state)
    policy = load(read_mesh_dir(mesh)).policy
    if policy is not None and not policy.mesh.nodes:
        raise click.ClickException(
            "the mesh lists no nodes: add `nodes:` to septum.yaml, or run all of it on this machine with `septum up`"
        )
    given = (("--watch",) if watch else (), ("--metrics", metrics) if metrics else ())
    also = [word for name in names for word in ("--name", name)]
    words = [word for words in given for word in words]
    started = running.module("septum.app.control", str(mesh), "--listen", listen, *words, *also)

    def specs() -> Sequence[Spec]:
        from septum.node.supervisor import control_spec

        (state / "agents.sock").unlink(missing_ok=True)
        return (control_spec(state, started, running.inherited()),)

    return running.run(state, "up.lock", specs, lambda tell: announce(state, tell, None), running.telling(log_format))
