"""`septum top`."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from fakes.decision_log import denied, line, recorder
from septum.audit.line import Line, read_line
from septum.audit.parcel import Position
from septum.audit.schema import FILE
from septum.audit.store import Store
from septum.audit.traffic import PathRow
from septum.cli.top import command
from septum.cli.traffic_table import Space, view

# The terminal becomes the one whose Ctrl-C interrupts the process.
LIVE = """
import fcntl, pathlib, sys, termios
from septum.cli.top import command
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
command([], obj=pathlib.Path(sys.argv[1]))
"""


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    (tmp_path / "septum.yaml").touch()
    (tmp_path / ".septum" / "records").mkdir(parents=True)
    return tmp_path


def store(mesh: Path, *lines: bytes) -> None:
    read = [read_line(raw) for raw in lines]
    records = [recorder().record(item, "n1") for item in read if isinstance(item, Line)]
    Store(mesh / ".septum" / "records" / FILE).write("n1", records, Position(), {})


def some(mesh: Path) -> None:
    now = f"{time.time() - 5:.6f}"
    store(mesh, line(t="1764000000"), line(t=now), line(t=now), denied(t=now, target="payments"))


def top(mesh: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, obj=mesh)


def test_without_a_terminal_the_view_is_printed_once(mesh: Path) -> None:
    some(mesh)
    lines = top(mesh).stdout.splitlines()
    assert "2 allowed" in lines[0]
    assert "1 denied" in lines[0]
    assert "policy vvvvvvvvvvvv" in lines[0]
    assert lines[3].split()[:6] == ["storefront", "→", "orders", "GET", "/orders/{id}", "customers-orders"]
    assert lines[4].split()[:5] == ["storefront", "→", "payments", "DELETE", "/orders/{id}"]


def test_json_has_the_paths_of_the_window(mesh: Path) -> None:
    some(mesh)
    value = json.loads(top(mesh, "--json", "--window", "30").stdout)
    assert (value["window"], value["policy_version"]) == (30, "v" * 64)
    assert [(path["target"], path["allowed"], path["denied"]) for path in value["paths"]] == [
        ("orders", 2, 0),
        ("payments", 0, 1),
    ]


@pytest.mark.parametrize(("sort", "first"), [("denied", "payments"), ("allowed", "orders"), ("target", "orders")])
def test_the_order_can_be_chosen(mesh: Path, sort: str, first: str) -> None:
    some(mesh)
    assert json.loads(top(mesh, "--json", "--sort", sort).stdout)["paths"][0]["target"] == first


def test_nothing_recorded_is_an_empty_view(mesh: Path) -> None:
    result = top(mesh, "--once")
    assert result.exit_code == 0
    assert "No calls in the last 60 seconds." in result.stdout


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_the_view_fits_its_space(columns: int) -> None:
    row = PathRow("storefront", "orders", "GET /" + "x" * 100, "customers-orders", 12345, 6, 7, 205.8, 1.2, 345.6, 0.0)
    console = Console(width=columns, height=12, record=True, file=io.StringIO())
    console.print(view([row] * 50, "v" * 64, 60, 1.0, Space(columns, 12)))
    lines = console.export_text().rstrip("\n").split("\n")
    assert len(lines) <= 12
    assert all(len(text) <= columns for text in lines)
    assert "12,345" in lines[-3]
    assert lines[-1].startswith("and 43 more paths") or "more paths" in lines[-1]


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_the_live_view_leaves_on_a_key_and_the_terminal_is_as_before(mesh: Path, key: bytes) -> None:
    some(mesh)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 120, 0, 0))
    before = termios.tcgetattr(theirs)
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", LIVE, str(mesh)],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    try:
        shown = read_until(ours, b"customers-orders")
        assert b"septum top" in shown
        os.write(ours, key)
        read_until(ours, b"\x1b[?1049l")
        assert process.wait(20) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def read_until(terminal: int, text: bytes, within: float = 20.0) -> bytes:
    data, end = b"", time.monotonic() + within
    while text not in data:
        assert select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0], data
        data += os.read(terminal, 65536)
    return data
