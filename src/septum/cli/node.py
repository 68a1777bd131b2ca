"""`septum node`: one host's agent and Envoy, in the foreground, and what can be asked of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from septum.cli import running
from septum.cli.moment import until
from septum.cli.output import print_json, spinner, style
from septum.cli.running import LOG_FORMAT, METRICS, Tell
from septum.node.binary import MissingEnvoyError, find_envoy

if TYPE_CHECKING:
    from septum.node.credentials import Member
    from septum.node.process import Spec


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  septum node --control 10.0.0.10:7400 --join web-1.token\n  septum node\n"
    "  septum node upgrade",
)
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), default=Path("septum-node"), show_default=True,
    envvar="SEPTUM_NODE_STATE", help="Where it keeps its keys, the last good snapshot, and records not shipped yet.",
)  # fmt: skip
@click.option("--control", metavar="HOST:PORT", help="The control plane; remembered from then on.")
@click.option(
    "--join", "token", metavar="TOKEN|FILE", envvar="SEPTUM_JOIN_TOKEN",
    help="Join with the token that `septum nodes token` printed, or the file it is in; `-` reads it.",
)  # fmt: skip
@click.option(
    "--spire", metavar="unix:PATH", envvar="SPIFFE_ENDPOINT_SOCKET", help="Take the workloads' certificates from SPIRE."
)
@METRICS
@click.option("--concurrency", default=2, show_default=True, metavar="N", help="Envoy's worker threads.")
@LOG_FORMAT
@click.pass_context
def command(
    ctx: click.Context,
    state: Path,
    control: str | None,
    token: str | None,
    spire: str | None,
    metrics: str | None,
    concurrency: int,
    log_format: str,
) -> int:
    """Run this host as a node of a mesh: an agent and Envoy, until Ctrl-C.

    The first time it joins with a token. Afterwards it starts by itself, also while the control plane is away: what
    was enforced last stays enforced.
    """
    ctx.obj = state.absolute()
    if ctx.invoked_subcommand is not None:
        return 0
    if token is None and not (ctx.obj / "identity").exists():
        raise click.UsageError(_NOBODY)
    running.make_state(ctx.obj)
    tell = running.telling(log_format)
    member = _member(ctx.obj, control, token, tell)
    given = (("--spire", spire) if spire else (), ("--metrics", metrics) if metrics else ())
    words = [word for words in given for word in words]
    agent = running.module("septum.app.agent", "--node", member.node, "--control", member.control, "--member", *words)

    def specs() -> Sequence[Spec]:
        from septum.node.supervisor import agent_spec, envoy_spec

        binary = find_envoy()
        (ctx.obj / "xds.sock").unlink(missing_ok=True)
        running.write_bootstrap(ctx.obj, member.mesh, member.node)
        return (
            agent_spec(ctx.obj, agent, running.inherited()),
            envoy_spec(ctx.obj, binary, member.node, concurrency),
        )

    return running.run(ctx.obj, "up.lock", specs, lambda told: _announce(ctx.obj, told, member.node), tell)


_NOBODY = "this host is no node yet: --control HOST:PORT --join TOKEN (`septum nodes token NAME` makes one)"


def _member(state: Path, control: str | None, token: str | None, tell: Tell) -> Member:
    """Who the node is: as it has been, or by the token now. Raises ClickException when it is nobody."""
    from septum.node.credentials import Credentials
    from septum.node.joining import JoinError, join, read_given

    credentials = Credentials(state / "identity")
    try:
        known = credentials.member()
        if token is not None:
            given = read_given(token)
            # A unit file names its token at every start, and leaves the file empty once the node has joined.
            if given is not None and (known is None or not credentials.joined_with(given)):
                if control is None:
                    raise click.UsageError("--join needs --control HOST:PORT")
                known = asyncio.run(join(credentials, given, control))
                tell("joined", {"node": known.node, "mesh": known.mesh, "trust_domain": known.trust_domain})
        if known is None:
            raise click.UsageError(_NOBODY)
        return credentials.move(known, control) if control else known
    except (JoinError, OSError) as error:
        raise click.ClickException(str(error)) from error


async def _announce(state: Path, tell: Tell, node: str) -> None:
    """Say so when Envoy holds a whole snapshot, and when it waits for one."""
    from septum.rpc import local

    waiting = False
    while True:
        try:
            status = await asyncio.to_thread(local.call, state, "agent.sock", "status", 30.0, patience=5.0)
        except local.NotRunningError:
            await asyncio.sleep(0.05)
            continue
        if status["good"]:
            tell("ready", {"node": node, "snapshot": status["good"], "control": status["control"], "pid": os.getpid()})
            return
        if not waiting:
            tell("waiting", {"node": node, "for": status["trouble"] or "the control plane's first snapshot"})
            waiting = True


@command.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def status(state: Path, as_json: bool) -> int:
    """Show how this host's node is. Exit status 1 when it enforces nothing, or has a trouble."""
    from septum.rpc import local

    try:
        found = local.call(state, "agent.sock", "status", 10.0)
    except local.NotRunningError as error:
        raise click.ClickException(
            f"the node does not run ({error}); `septum node --state {state}` starts it"
        ) from error
    if as_json:
        print_json(found)
    else:
        good = style("enforcing", fg="green") if found["good"] else style("enforcing nothing", fg="red")
        click.echo(
            f"node {found['node']}  {good}  snapshot {found['good'][:12] or '-'}  control plane {found['control']}"
        )
        for certificate in found["certificates"]:
            click.echo(f"  {certificate['identity']}  {_left(certificate['ends'], time.time())}")
        # What keeps the control plane away is no trouble of enforcement: the exit status does not tell of it.
        away = [found["trouble"]] if found["trouble"] else []
        for trouble in (*found["troubles"], *away):
            click.echo(style(f"  {trouble}", fg="yellow"))
    return 0 if found["good"] and not found["troubles"] else 1


def _left(end: float, now: float) -> str:
    return until(end, now) if end <= now else f"{until(end, now)} left"


@command.command("upgrade")
@click.option("--envoy", type=click.Path(dir_okay=False), help="Another binary; what is installed otherwise.")
@click.option("--patience", default=60.0, show_default=True, metavar="SECONDS", help="How long open calls may go on.")
@click.pass_obj
def upgrade(state: Path, envoy: str | None, patience: float) -> int:
    """Have a new Envoy take over from the one that runs, without a dropped request."""
    from septum.node import handover
    from septum.rpc import local

    try:
        with spinner("handing over"):
            done = handover.upgrade(state, envoy, patience)
    except local.NotRunningError as error:
        raise click.ClickException(
            f"the node does not run ({error}); `septum node --state {state}` starts it"
        ) from error
    except (handover.RefusedError, MissingEnvoyError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(str(done))
    return 0


@command.command("restart")
@click.pass_obj
def restart(state: Path) -> int:
    """End Envoy and start it again; what is open is cut."""
    from septum.node import handover
    from septum.rpc import local

    try:
        done = handover.restart(state)
    except local.NotRunningError as error:
        raise click.ClickException(
            f"the node does not run ({error}); `septum node --state {state}` starts it"
        ) from error
    except (handover.RefusedError, MissingEnvoyError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(str(done))
    return 0
