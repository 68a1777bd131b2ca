"""The agent's process, built from settings.

`python -m septum.app.agent --node NAME --control unix:PATH|HOST:PORT`, in the node's state directory; `septum up` and
`septum node` start it. With `--member` the node proves itself by the certificate that it was given when it joined.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog

from septum.app.process import begin, end_with_parent, locked, stopping
from septum.node.agent import Agent
from septum.node.credentials import NODE, Credentials
from septum.rpc import local
from septum.rpc.client import Tls, control_name
from septum.telemetry.agent import agent_metrics, agent_unready
from septum.telemetry.server import Telemetry, TelemetryError, address
from septum.telemetry.server import serve as serve_telemetry

log = structlog.get_logger()
SOCKET = "agent.sock"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process is told. `member`: this is not the control plane's own machine. `spire` may be empty."""

    state: Path
    node: str
    control: str
    member: bool
    spire: str
    metrics: str


def main(arguments: list[str]) -> int:
    """Run until SIGTERM. Exit status 1 when the node is nobody, or something cannot be used."""
    begin()
    end_with_parent()
    try:
        return asyncio.run(_run(_settings(arguments)))
    except (TelemetryError, OSError) as error:
        log.error("the agent cannot start", reason=str(error))
        return 1


def _settings(arguments: list[str]) -> Settings:
    parser = argparse.ArgumentParser()
    for name in ("--node", "--control"):
        parser.add_argument(name, required=True)
    for name in ("--spire", "--metrics"):
        parser.add_argument(name, default="")
    parser.add_argument("--member", action="store_true")
    given = parser.parse_args(arguments)
    return Settings(Path.cwd(), given.node, given.control, given.member, given.spire, given.metrics)


async def _run(settings: Settings) -> int:
    end = stopping()
    credentials = Credentials(settings.state / "identity")
    async with AsyncExitStack() as stack:
        await locked(stack, settings.state / "agent.lock")
        tls = _proof(credentials) if settings.member else None
        agent = Agent(settings.state, settings.node, settings.control, credentials, tls, settings.spire, time.time)
        await stack.enter_async_context(local.serve(settings.state, SOCKET, agent.handlers()))
        if settings.metrics:
            telemetry = Telemetry(lambda: agent_metrics(agent.view()), lambda: agent_unready(agent.view(), time.time()))
            await stack.enter_async_context(serve_telemetry(address(settings.metrics), telemetry))
        gc.collect()
        gc.freeze()
        log.info("ready", node=settings.node, control=settings.control)
        running = asyncio.create_task(agent.run())
        waiting = asyncio.create_task(end.wait())
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping")
        waiting.cancel()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await agent.finish()
        if not end.is_set():
            running.result()
    return 0


def _proof(credentials: Credentials) -> Callable[[], Tls]:
    """What the node proves and trusts at each moment."""
    member = credentials.member()
    if member is None:
        raise OSError("this host is no node: `septum node --join TOKEN`")

    def now() -> Tls:
        credential = credentials.of(NODE)
        if credential is None:
            raise OSError("the node's certificate is lost: join again with a new token")
        return Tls(credentials.roots(), credential.chain, credential.key, control_name(member.trust_domain))

    return now


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
