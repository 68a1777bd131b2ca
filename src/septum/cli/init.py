"""`septum init`: a commented starting mesh, with what it could find out by itself."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import click

from septum.cli.output import style
from septum.node.listening import Listening, listening_ports
from septum.policy.mesh_file import RESERVED_NAMES
from septum.policy.roles import MESH_FILE

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
  backend: {segment: core, at: 127.0.0.1:8002, protocol: http}
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

_TESTS = """\
# What the policy should decide. `septum test` asks it; `septum test --envoy` asks a real proxy too.
- name: nobody calls {target} before a rule says so
  from: {caller}
  to: {target}
  {asks}
  expect: deny
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
    name = _word(place.name, 63) or "mesh"
    workloads = "".join(_workload(name, entry) for name, entry in names.items()) or _EXAMPLE
    try:
        (place / "policy").mkdir(parents=True, exist_ok=True)
        wrote = [
            _write(place / MESH_FILE, _HEAD.format(name=name) + workloads + _TAIL),
            _write(place / "policy" / f"{name}.yaml", _POLICY.format(caller=caller, target=target)),
        ]
        if all(wrote):  # of another mesh than this one it would not be true
            _write(place / "policy" / f"{name}_test.yaml", _test(names))
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename}: {error.strerror}") from error
    if any(wrote):
        _show(found)
    click.echo(f"\nNext: look at {MESH_FILE}, then `septum up {directory or ''}`".rstrip() + ".")
    return 0


def _names(found: list[Listening]) -> dict[str, Listening]:
    """A workload name for each port: the process's, with the port where that alone is taken or reserved."""
    words = [_word(entry.process, 40) or "service" for entry in found]
    names: dict[str, Listening] = {}
    for word, entry in zip(words, found, strict=True):
        name = word if words.count(word) == 1 and word not in RESERVED_NAMES else f"{word}-{entry.port}"
        names[name if name not in names else f"{name}-{entry.port}"] = entry
    return names


def _word(text: str, most: int) -> str:
    """What of a text can stand in a name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:most].strip("-")


def _workload(name: str, entry: Listening) -> str:
    protocol = "tcp" if entry.port in _TCP_PORTS else "http"
    return f"  {name}: {{segment: core, at: {_at(entry)}, protocol: {protocol}}}  # pid {entry.pid}\n"


def _at(entry: Listening) -> str:
    """Where the service is called: on loopback when it listens everywhere. Brackets are quoted, or they are a list."""
    host = ip_address(entry.host)
    if isinstance(host, IPv6Address):
        host = host.ipv4_mapped or host
    if host.is_unspecified:
        return f"127.0.0.1:{entry.port}"
    return f"{host}:{entry.port}" if isinstance(host, IPv4Address) else f'"[{host}]:{entry.port}"'


def _test(names: dict[str, Listening]) -> str:
    """A first test: of two workloads or, where there is one, of it and itself."""
    caller, target = ([*names] * 2)[:2] or ("frontend", "backend")
    tcp = target in names and names[target].port in _TCP_PORTS
    asks = "connect: true" if tcp else "http: GET /"
    return _TESTS.format(caller=caller, target=target, asks=asks)


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
