"""`septum run`: a program as a workload, without a change to it."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import NoReturn

import click

from septum.cli.ask import ask
from septum.cli.place import mesh_dir
from septum.model.mesh import Address
from septum.node.environment import environment


@click.command(
    context_settings={"allow_interspersed_args": False},  # what follows CMD is CMD's own
    epilog="\b\nExamples:\n  septum run --as storefront -- curl http://orders/orders/42\n"
    "  septum run --as orders -- python orders.py\n  septum run --as orders --env",
)
@click.option("--as", "workload", required=True, metavar="NAME", help="The workload that the program is.")
@click.option("--env", "only_print", is_flag=True, help="Print the variables as shell exports, and run nothing.")
@click.argument("words", nargs=-1, metavar="[--] CMD [ARG]...", type=click.UNPROCESSED)
@click.pass_obj
def command(above: Path | None, workload: str, only_print: bool, words: tuple[str, ...]) -> int:
    """Run CMD so that its calls go through the workload's own outbound listener.

    Programs find it by the usual proxy variables (http_proxy, grpc_proxy; Node gets a preload; and https_proxy and
    all_proxy, where the mesh says `external`). TCP targets are at the addresses of `dials`, also in SEPTUM_DIAL_<NAME>.
    CMD takes this process's place: signals and the exit status are its own.
    """
    mesh = mesh_dir(above)
    status = ask(mesh, "status")
    known = {w["name"]: w for w in status["workloads"]}
    if workload not in known:
        raise click.UsageError(f"no workload is called `{workload}`; there are {', '.join(known)}")
    dials = {name: Address.parse(text) for name, text in known[workload]["dials"].items()}
    outbound = Address.parse(known[workload]["outbound"])
    made = environment(os.environ, workload, outbound, dials, outside=status.get("external", False))
    if only_print:
        for name, value in made.items():
            if os.environ.get(name) != value:
                click.echo(f"export {name}={_quoted(value)}")
        return 0
    if not words:
        raise click.UsageError("name the program to run: septum run --as NAME -- CMD")
    if shutil.which(words[0]) is None:
        raise click.ClickException(f"there is no program `{words[0]}`")
    return _become(words, made)


def _become(words: tuple[str, ...], made: dict[str, str]) -> NoReturn:
    os.execvpe(words[0], list(words), made)  # noqa: S606 - running it is the point


def _quoted(value: str) -> str:
    return shlex.quote(value)
