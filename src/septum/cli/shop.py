"""The example shop as processes behind Septum, in a directory of its own: what `septum demo` shows."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from septum.audit.query import Filter, Reader, Row
from septum.audit.schema import FILE, StoreUnavailable
from septum.control import api
from septum.control.files import read_mesh_dir

RULE = "customers-browse"
# Storefront's outbound listener in examples/shop/septum.yaml, and where its calls of the catalog go.
STOREFRONT, CATALOG = ("127.0.0.1", 9151), "127.0.0.1:9103"


class DemoError(Exception):
    """Something is not as the demo promises; the text says what."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A rule change as it was measured, in milliseconds from the call of `apply`.

    `enforced` is when the first call decided by the new rule was sent, `held` when `apply` said that it is held.
    """

    enforced: float
    held: float
    resources: int


def source() -> Path:
    """Where the shop's files are: beside the checkout's `src`, or in the installed package."""
    for place in (Path(__file__).parents[3] / "examples" / "shop", Path(__file__).parents[1] / "_shop"):
        if (place / "septum.yaml").exists():
            return place
    raise DemoError("the example shop is not installed; run the demo from a checkout of Septum")


@contextmanager
def running(say: Callable[[str], None]) -> Iterator[Shop]:
    """The shop with its services and Septum in front of them; everything ends with the block."""
    directory = Path(tempfile.mkdtemp(prefix="septum-demo-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        shop = Shop(directory, stack, say)
        shop.start()
        yield shop


class Shop:
    """One run of the shop. The mesh's files are a copy, so that the demo can change them."""

    def __init__(self, directory: Path, stack: ExitStack, say: Callable[[str], None]) -> None:
        self.mesh, self._stack, self._say = directory, stack, say
        self.state = directory / ".septum"
        self._code = source()

    def start(self) -> None:
        """Septum first, then the services, each as its workload."""
        shutil.copy(self._code / "septum.yaml", self.mesh)
        shutil.copytree(self._code / "policy", self.mesh / "policy")
        self._up()
        for name, program in self._services().items():
            self._service(name, program)
        self._say("six services are running; none of them knows of Septum")

    def _services(self) -> dict[str, list[str]]:
        def python(name: str, *arguments: str) -> list[str]:
            return [sys.executable, str(self._code / f"{name}.py"), *arguments]

        node = shutil.which("node")
        catalog = [node, str(self._code / "catalog.mjs")] if node else python("catalog")
        names = ("ledger", "payments", "orders", "notify")
        return {name: python(name) for name in names} | {
            "catalog": catalog,
            "storefront": python("storefront", "--traffic", "12"),
        }

    def _up(self) -> None:
        command = [sys.executable, "-m", "septum.cli", "up", str(self.mesh), "--log-format", "json"]
        process = self._spawn(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line.decode())
            event = json.loads(line) if line.startswith(b"{") else {}
            if event.get("event") == "ready":
                self._say(f"Septum is up: a control plane and Envoy, {event['resources']} resources held")
                threading.Thread(target=process.stdout.read, daemon=True).start()
                return
            if event.get("event") == "not enforced yet":
                break
        raise DemoError("Septum did not come up:\n" + "".join(said))

    def _service(self, name: str, program: list[str]) -> None:
        log = (self.mesh / f"{name}.log").open("wb")
        self._stack.callback(log.close)
        self._spawn(self._as(name, program), env=_environment(name), stdout=log, stderr=log)

    def _as(self, name: str, program: list[str]) -> list[str]:
        return [sys.executable, "-m", "septum.cli", "-C", str(self.mesh), "run", "--as", name, "--", *program]

    def misbehave(self) -> tuple[bool, str]:
        """Run `reports`, which tries what it must not. True when everything was refused, and what it printed."""
        command = self._as("reports", [sys.executable, str(self._code / "reports.py"), "--once"])
        done = subprocess.run(
            command, env=_environment("reports"), capture_output=True, text=True, timeout=90, check=False
        )
        return done.returncode == 0, done.stdout + done.stderr

    def keep_misbehaving(self) -> None:
        """Run `reports` in its slow loop."""
        self._service("reports", [sys.executable, str(self._code / "reports.py")])

    def _spawn(self, command: list[str], **how: Any) -> subprocess.Popen[bytes]:
        how.setdefault("env", dict(os.environ))
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **how)
        self._stack.callback(_end, process)
        return process

    def change_rule(self, *, remove: bool) -> Changed:
        """Take the rule out, or put it back, while the storefront asks; measured from the call of apply."""
        path = self.mesh / "policy" / "storefront.yaml"
        whole = (self._code / "policy" / "storefront.yaml").read_text()
        path.write_text(without_rule(whole, RULE) if remove else whole)
        files = {name: text.decode() for name, text in read_mesh_dir(self.mesh).items() if isinstance(text, bytes)}
        watch = _Watch(denied=remove)
        try:
            called = time.perf_counter()
            applied = api.call(self.state, "apply", files=files, author="septum demo")
            held = time.perf_counter()
            if applied["outcome"] != "held":
                raise DemoError(f"the change was not held: {applied}")
            return Changed((watch.seen() - called) * 1e3, (held - called) * 1e3, len(applied["resources_changed"]))
        finally:
            watch.end()

    def records(self, asked: Filter, limit: int = 1) -> list[Row]:
        """The newest records of a kind; none while there is no record file."""
        try:
            reader = Reader(self.state / "records" / FILE)
        except StoreUnavailable:
            return []
        try:
            return reader.newest(asked, limit)
        finally:
            reader.close()

    def wait_for(self, what: str, asked: Filter, deadline: float = 45.0) -> Row:
        """Wait until a record of a kind is there. Raises DemoError."""
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            if rows := self.records(asked):
                return rows[0]
            time.sleep(0.05)
        raise DemoError(f"no record of {what} within {deadline:.0f} s")


class _Watch:
    """Asks again and again over one kept-alive connection, and notes when the verdict is the expected one."""

    def __init__(self, *, denied: bool) -> None:
        self._denied = denied
        self._stop = threading.Event()
        self._seen: float | None = None
        self._connection = socket.create_connection(STOREFRONT, 5)
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def seen(self) -> float:
        """When the first call with the expected verdict was sent. Raises DemoError."""
        self._thread.join(10)
        if self._seen is None:
            raise DemoError("the change was not seen on an open connection within 10 s")
        return self._seen

    def end(self) -> None:
        """Stop asking."""
        self._stop.set()
        self._connection.close()

    def _ask(self) -> None:
        request = f"HEAD /catalog/1 HTTP/1.1\r\nhost: {CATALOG}\r\n\r\n".encode()
        try:
            while not self._stop.is_set():
                sent = time.perf_counter()
                self._connection.sendall(request)
                head = b""
                while b"\r\n\r\n" not in head:
                    head += self._connection.recv(4096) or b"\r\n\r\n"
                if (b" 403 " in head.split(b"\r\n")[0]) == self._denied:
                    self._seen = sent
                    return
        except OSError:
            return  # `seen` says that nothing was


def without_rule(text: str, name: str) -> str:
    """A policy file without one rule: its lines from `- name: NAME` to the next item."""
    kept, skipping = [], False
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("- "):
            skipping = line.strip() == f"- name: {name}"
        if not skipping:
            kept.append(line)
    return "".join(kept)


def _environment(name: str) -> dict[str, str]:
    """A service's own settings; the raw TCP addresses are the `dials` of examples/shop/septum.yaml."""
    environment = {key: value for key, value in os.environ.items() if key != "PORT"}
    ledger = {"orders": "127.0.0.1:9205", "reports": "127.0.0.1:9207"}
    return environment | ({"LEDGER_ADDR": ledger[name]} if name in ledger else {})


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
