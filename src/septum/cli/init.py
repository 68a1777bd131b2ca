"""`septum init`: a commented starting mesh, with what it could find out by itself."""

from __future__ import annotations

import re
from pathlib import Path

import click

from septum.cli.output import style
from septum.node.listening import Listening, listening_ports
from septum.policy.load import MESH_FILE

_HEAD = """\
# What exists: segments, workloads, and what each workload speaks.
# `septum check` finds every mistake at once; `septum schema mesh` is what editors complete from.
mesh: {name}
trust_domain: {name}.test

segments:
  edge: takes traffic from outside
  core: does the work

# Each workload is in one segment. Protocols are http, grpc or tcp, and are never guessed.
# Move a workload to the segment where it belongs, and correct its protocol.
workloads:
"""

_TAIL = """
# Segments whose denials are carried out. The others are observed: everything passes, and what would have been denied is
# recorded. Start with none, look at `septum top` and `septum audit --would-deny`, and add one segment at a time.
enforce: []
"""

_EXAMPLE = """\
  frontend: {segment: edge, at: 127.0.0.1:8001, protocol: http}
  backend:  {segment: core, at: 127.0.0.1:8002, protocol: http}
"""

_POLICY = """\
# What may happen. What no rule allows is denied. `septum explain FROM TO 'GET /path'` says what these files decide.
#
# allow:
#   - name: pages
#     from: {caller}                 # a workload, or segment:NAME
#     to: {target}
#     http: ["GET /items/{{id}}", "GET,HEAD /static/**"]
#     because: why this path is there
allow: []
"""

# Ports whose protocol is known by their number (IANA), and is not HTTP.
_TCP_PORTS = {22, 25, 53, 110, 143, 389, 465, 587, 993, 995, 1433, 1521, 3306, 5432, 5672, 6379, 9092, 11211, 27017}


@click.command(epilog="\b\nExamples:\n  septum init\n  septum init shop && septum check shop")
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.pass_obj
def command(above: Path | None, directory: Path | None) -> int:
    """Write septum.yaml and policy/ into DIRECTORY. The services that listen on this host become its workloads.

    Files that exist are left alone.
    """
    place = (directory or above or Path.cwd()).absolute()
    found = [entry for entry in listening_ports() if entry.process and entry.process != "envoy"]
    names = _names(found)
    caller, target = [*names, "frontend", "backend"][:2] if len(names) != 1 else (next(iter(names)), "backend")
    name = re.sub(r"[^a-z0-9]+", "-", place.name.lower()).strip("-") or "mesh"
    workloads = "".join(_workload(name, entry) for name, entry in names.items()) or _EXAMPLE
    try:
        (place / "policy").mkdir(parents=True, exist_ok=True)
        wrote = [
            _write(place / MESH_FILE, _HEAD.format(name=name) + workloads + _TAIL),
            _write(place / "policy" / f"{name}.yaml", _POLICY.format(caller=caller, target=target)),
        ]
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename}: {error.strerror}") from error
    if any(wrote):
        _show(found)
    click.echo(f"\nNext: look at {MESH_FILE}, then `septum up {directory or ''}`".rstrip() + ".")
    return 0


def _names(found: list[Listening]) -> dict[str, Listening]:
    """A name a port: the process's, with the port where several share one."""
    words = [re.sub(r"[^a-z0-9]+", "-", entry.process.lower()).strip("-")[:40] or "service" for entry in found]
    return {
        (word if words.count(word) == 1 else f"{word}-{entry.port}"): entry
        for word, entry in zip(words, found, strict=True)
    }


def _workload(name: str, entry: Listening) -> str:
    protocol = "tcp" if entry.port in _TCP_PORTS else "http"
    host = "127.0.0.1" if entry.host in ("0.0.0.0", "::", "::1", "127.0.0.1") else entry.host  # noqa: S104
    address = f"[{host}]:{entry.port}" if ":" in host else f"{host}:{entry.port}"
    return f"  {name}: {{segment: core, at: {address}, protocol: {protocol}}}  # pid {entry.pid}\n"


def _write(path: Path, text: str) -> bool:
    if path.exists():
        click.echo(f"{path} is there already and stays as it is")
        return False
    path.write_text(text)
    click.echo(style("wrote", fg="green") + f" {path}")
    return True


def _show(found: list[Listening]) -> None:
    if not found:
        click.echo("Nothing listens on this host that can be seen; the workloads are examples.")
        return
    click.echo("\nListening here, and now workloads:")
    for entry in found:
        click.echo(f"  {entry.host}:{entry.port}  {entry.process} (pid {entry.pid})")
