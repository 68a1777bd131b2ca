"""Places outside with the real `septum up`: programs as they are, run as a workload, on a host that finds the names."""

from __future__ import annotations

import json
import shlex
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mesh_process
import pytest
from backends import GREETING, HttpEcho, TcpGreeter
from certificates import Ca
from outside_backends import TlsEcho, context
from up_process import Up
from waiting import until

pytestmark = pytest.mark.xdist_group("outside")

POLICY = """\
allow:
  - {name: read, from: front, to: [partner, plain], http: ["GET /read/**"]}
  - {name: sessions, from: front, to: [bank, vault]}
"""


SETTINGS = {
    "partner": "protocol: http, originate_tls: true, ca: files/ca.pem",
    "plain": "protocol: http",
    "bank": "protocol: tls",
    "vault": "protocol: tcp",
}


class Mesh(mesh_process.Mesh):
    """`ports` says where the hosts of the places are. `septum up` has an /etc/hosts of its own, with their names."""

    def __init__(self, ca: Ca, **ports: int) -> None:
        self._ca, self.ports = ca, ports
        super().__init__({"front": {"dials": ["vault"]}, "stranger": {}}, POLICY)

    def write_mesh(self) -> None:
        super().write_mesh()
        places = {name: f"{{host: {name}.test, port: {port}, {SETTINGS[name]}}}" for name, port in self.ports.items()}
        with (self.directory / "septum.yaml").open("a") as file:
            file.writelines(["external:\n", *(f"  {name}: {place}\n" for name, place in places.items())])
        (self._root / "hosts").write_text("".join(f"127.0.0.1 {name}.test\n" for name in self.ports))
        (self.directory / "files").mkdir()
        (self.directory / "files" / "ca.pem").write_bytes(self._ca.pem)

    def start(self, *arguments: str, **environment: str) -> Up:
        up = [*mesh_process.SEPTUM, "up", str(self.directory), "--log-format", "json", *arguments]
        script = f"mount --bind {self._root / 'hosts'} /etc/hosts && exec {shlex.join(up)}"
        command = ["unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "sh", "-c", script]
        started = Up(command, {**self.environment, **environment}, self._root / "up.err", self.logs)
        self._ups.append(started)
        return started

    def url(self, scheme: str, place: str, path: str) -> str:
        return f"{scheme}://{place}.test:{self.ports[place]}{path}"

    def kept(self, **wanted: Any) -> list[dict[str, Any]]:
        """The stored records with these fields."""
        lines = self.septum("audit", "--json").out.splitlines()
        records = [json.loads(line) for line in lines]
        return [record for record in records if all(record[key] == value for key, value in wanted.items())]


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ca, Path]:
    ca, file = Ca(), tmp_path_factory.mktemp("outside") / "ca.pem"
    file.write_bytes(ca.pem)
    return ca, file


@pytest.fixture(scope="module")
def mesh(trusted: tuple[Ca, Path]) -> Iterator[Mesh]:
    ca, file = trusted

    def tls(name: str) -> TlsEcho:
        return TlsEcho(context(file.parent, ca.issue(dns=[name])))

    with tls("partner.test") as partner, tls("bank.test") as bank, HttpEcho() as plain, TcpGreeter() as vault:
        ports = {"partner": partner.port, "plain": plain.port, "bank": bank.port, "vault": vault.port}
        with Mesh(ca, **ports) as mesh:
            for place in ("partner", "plain"):
                until(
                    lambda place=place: mesh.status("front", f"http://{place}/read/a") == 200, what=f"{place} is found"
                )
            yield mesh


URLLIB = """
import ssl, sys, urllib.error, urllib.request
trusted = ssl.create_default_context(cafile=sys.argv[1])
for url in sys.argv[2:]:
    try:
        print(urllib.request.urlopen(url, timeout=10, context=trusted).status)
    except urllib.error.URLError as error:
        print(getattr(error, "code", error.reason))
"""


@pytest.mark.parametrize("client", ["curl", "urllib"])
def test_programs_call_outside_by_the_proxy_variables(
    mesh: Mesh, trusted: tuple[Ca, Path], program: Callable[[str], str], client: str
) -> None:
    urls = [
        mesh.url("https", "bank", "/any"),
        mesh.url("http", "plain", "/read/a"),
        mesh.url("http", "partner", "/read/a"),
        mesh.url("http", "plain", "/write"),
        f"https://{client}.evil.test/",
    ]
    if client == "curl":
        how = ["-sS", "--cacert", str(trusted[1]), "-o", "/dev/null", "-w", "%{http_code} %{http_connect}\\n"]
        command = [program("curl"), *(word for url in urls for word in ("--next", *how, url))]
        expected = ["200 200", "200 000", "200 000", "403 000", "000 403"]
    else:
        command = [sys.executable, "-c", URLLIB, str(trusted[1]), *urls]
        expected = ["200", "200", "200", "403", "Tunnel connection failed: 403 Forbidden"]
    ran = mesh.run_as("front", *command, no_proxy="*")
    assert ran.out.splitlines() == expected, ran
    (denied,) = until(lambda: mesh.kept(target=f"{client}.evil.test:443"), what="the record of what is not outside")
    assert (denied["decision"], denied["caller"], denied["protocol"]) == ("deny", "front", "tcp")
    assert denied["reason"] == f"`{client}.evil.test:443` names no workload"


def test_another_workload_s_programs_get_nowhere(mesh: Mesh, trusted: tuple[Ca, Path]) -> None:
    urls = [mesh.url("https", "bank", "/any"), mesh.url("http", "plain", "/read/a")]
    ran = mesh.run_as("stranger", sys.executable, "-c", URLLIB, str(trusted[1]), *urls)
    assert ran.out.splitlines() == ["Tunnel connection failed: 403 Forbidden", "403"], ran
    for target in ("bank", "plain"):
        (denied,) = until(lambda target=target: mesh.kept(caller="stranger", target=target), what="a record")
        assert (denied["decision"], denied["reason"]) == ("deny", "caller: it is for front, not stranger")
        assert denied["nearest"] == ("sessions" if target == "bank" else "read")


def test_a_session_under_another_name_is_on_record_with_the_reason(mesh: Mesh) -> None:
    tls = ssl.create_default_context()
    with socket.create_connection(mesh.outbound("front"), 10) as wire:
        authority = f"bank.test:{mesh.ports['bank']}"
        wire.sendall(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode())
        assert wire.recv(4096).startswith(b"HTTP/1.1 200 ")
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            tls.wrap_socket(wire, server_hostname="evil.test")
    (stopped,) = until(lambda: mesh.kept(target="bank", caller="front", decision="deny"), what="the record")
    assert stopped["reason"] == "the session was stopped: its server name is evil.test, and only bank.test may pass"
    assert stopped["policy_version"]


def test_a_session_by_an_address(mesh: Mesh) -> None:
    script = "import os, socket; host, port = os.environ['SEPTUM_DIAL_VAULT'].split(':'); "
    script += "print(socket.create_connection((host, int(port)), 10).recv(100))"
    assert mesh.run_as("front", sys.executable, "-c", script).out.strip() == repr(GREETING)


def test_the_policy_says_what_proxies_do(mesh: Mesh) -> None:
    """Every record agrees with what `decide` says of its request."""
    records = mesh.kept()
    assert records
    assert not [record for record in records if record["reason"].startswith("septum: ")]
