"""A mesh as real processes: files in a short directory, `septum up` beside the test, nothing left afterwards.

with HttpEcho() as orders, Mesh({"front": {}, "orders": {"at": orders.address}}, ALLOW) as mesh:
    assert mesh.call("front", "http://orders/orders/1").status == 200
    assert mesh.record(path="/orders/1")["er"] == "allowed"
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from answers import Answer, Result
from ports import Port
from proxy import with_results
from up_process import Up
from waiting import until

SEPTUM = (sys.executable, "-m", "septum.cli")


class Mesh:
    """A mesh directory, and its `septum up` when it was started.

    Each workload is what `septum.yaml` says of it. What is left out: `segment` is `core`, `protocol` is `http`, `at` is
    a port where nobody listens, `outbound` is a port that is kept free. `dials` may be a list of names: each gets one.
    Everything is enforced unless `enforce` names segments. `start=False` only writes the files.
    """

    def __init__(
        self,
        workloads: Mapping[str, Mapping[str, Any]],
        policy: str = "allow: []\n",
        *,
        enforce: str | None = None,
        start: bool = True,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        below: str = "",
    ) -> None:
        self._resources = ExitStack()
        self._root = Path(tempfile.mkdtemp(prefix="septum-", dir="/tmp"))
        self.directory = self._root / below
        self.enforce, self._start, self._arguments = enforce, start, arguments
        self.environment = {**os.environ, **(environment or {})}
        self._ups: list[Up] = []
        self.workloads: dict[str, dict[str, Any]] = {}
        for name, given in workloads.items():
            self.add(name, **given)
        (self.directory / "policy").mkdir(parents=True)
        self.write_mesh()
        self.write_policy(policy)

    @property
    def state(self) -> Path:
        return self.directory / ".septum"

    @property
    def up(self) -> Up:
        """The `septum up` that was started last."""
        return self._ups[-1]

    def add(self, name: str, **given: Any) -> None:
        """Describe one more workload; `write_mesh` puts it into the file."""
        dials = given.get("dials", {})
        if not isinstance(dials, Mapping):
            given["dials"] = {target: f"127.0.0.1:{self.port()}" for target in dials}
        made = {"segment": "core", "protocol": "http"} | given
        made.setdefault("at", f"127.0.0.1:{self.port()}")
        made.setdefault("outbound", f"127.0.0.1:{self.port()}")
        self.workloads[name] = made

    def port(self) -> int:
        """A TCP port on loopback that nobody else gets while the mesh is there."""
        return self._resources.enter_context(Port()).number

    def write_mesh(self) -> None:
        """Write `septum.yaml` as it is described now."""
        segments = dict.fromkeys(workload["segment"] for workload in self.workloads.values())
        lines = ["mesh: test", "trust_domain: test.test", "segments:"]
        lines += [f"  {segment}: of the test" for segment in segments]
        lines += ["workloads:", *(f"  {name}: {_flow(w)}" for name, w in self.workloads.items())]
        lines += [f"enforce: {self.enforce}"] if self.enforce is not None else []
        (self.directory / "septum.yaml").write_text("\n".join(lines) + "\n")

    def write_policy(self, text: str, file: str = "test") -> None:
        """Write `policy/<file>.yaml`."""
        (self.directory / "policy" / f"{file}.yaml").write_text(text)

    def start(self, *arguments: str, **environment: str) -> Up:
        """Run `septum up`; its events are waited for with `Up.event`."""
        command = [*SEPTUM, "up", str(self.directory), "--log-format", "json", *self._arguments, *arguments]
        up = Up(command, {**self.environment, **environment}, self._root / f"up{len(self._ups)}.err", self.logs)
        self._ups.append(up)
        return up

    def septum(self, *arguments: str, within: float = 30, **environment: str) -> Result:
        """Run a command of the command line for this mesh."""
        command, env = [*SEPTUM, "-C", str(self.directory), *arguments], {**self.environment, **environment}
        ran = subprocess.run(command, capture_output=True, text=True, timeout=within, env=env, check=False)
        return Result(ran.returncode, ran.stdout, ran.stderr)

    def apply(self, policy: str | None = None) -> dict[str, Any]:
        """Apply the files, or another policy, and be sure that it is held. The answer of `septum apply --json`."""
        if policy is not None:
            self.write_policy(policy)
        result = self.septum("apply", "--json")
        assert result.code == 0, result
        return result.json

    def run_as(self, workload: str, *command: str, **environment: str) -> Result:
        """A program as a workload: `septum run --as WORKLOAD -- COMMAND`."""
        return self.septum("run", "--as", workload, "--", *command, **environment)

    def outbound(self, workload: str) -> tuple[str, int]:
        """Where a workload's own calls enter."""
        return _address(self.workloads[workload]["outbound"])

    def dial(self, workload: str, target: str) -> tuple[str, int]:
        """Where a workload finds a TCP workload."""
        return _address(self.workloads[workload]["dials"][target])

    def call(
        self,
        caller: str,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        """One request of a workload, in the absolute form, over a new connection or the one that is given."""
        own = connection or self.connection(caller)
        try:
            own.request(method, url, body, dict(headers or {}))
            response = own.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            if connection is None:
                own.close()

    def status(self, caller: str, url: str) -> int:
        """The status of one GET, or 0 when nobody answers."""
        try:
            return self.call(caller, url).status
        except (OSError, http.client.HTTPException):
            return 0

    def connection(self, caller: str) -> http.client.HTTPConnection:
        """A connection to a workload's outbound listener, for several calls."""
        return http.client.HTTPConnection(*self.outbound(caller), timeout=20)

    def lines(self) -> list[dict[str, Any]]:
        """Everything that Envoy has written of decisions; the keys are those of `septum.envoy.access_log`."""
        try:
            lines = (self.state / "records" / "decisions.jsonl").read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [with_results(json.loads(line)) for line in lines if line.endswith("\n")]

    def records(self, **wanted: Any) -> list[dict[str, Any]]:
        """The lines about calls that have ended, with these fields."""
        ended = [line for line in self.lines() if line["type"] != "DownstreamPeriodic"]
        return [line for line in ended if all(line.get(key) == value for key, value in wanted.items())]

    def record(self, **wanted: Any) -> dict[str, Any]:
        """The record with these fields, as soon as it is there."""
        return until(lambda: self.records(**wanted), within=10, what=f"a record with {wanted}", says=self.logs)[-1]

    def pid(self, process: str) -> int:
        """The pid of `envoy`, `agent` or `control` as the last `septum up` told it."""
        return self.up.pid_of(process)

    def processes(self) -> dict[int, str]:
        """Every process of this mesh that is still there, by pid."""
        found = {up.pid: "up" for up in self._ups if up.running}
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.state) and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = process.name()
            except psutil.Error:
                continue
        return found

    def logs(self) -> str:
        """The ends of the logs, for a test that fails."""
        names = ("septum.log", "agent.log", "envoy.log", "envoy.out")
        files = [*self._root.glob("*.err"), *(self.state / name for name in names)]
        return "\n".join(f"--- {file.name}\n{file.read_text()[-3000:]}" for file in files if file.exists())

    def stop(self) -> int:
        """Ctrl-C for the last `septum up`; its exit status."""
        self.up.signal(signal.SIGINT)
        return self.up.wait()

    def __enter__(self) -> Mesh:
        if self._start:
            try:
                self.start().event("ready")
            except BaseException:
                self._end()
                raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            error.add_note(self.logs())
        left = self._end()
        assert error is not None or not left, f"processes were left: {left}"

    def _end(self) -> dict[int, str]:
        for up in self._ups:
            up.close()
        left = self.processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not self.processes(), what="the end of every process")
        self._resources.close()
        shutil.rmtree(self._root)
        return left


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)
