"""`septum audit`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fakes.decision_log import denied, line, recorder
from septum.audit.line import Line, read_line
from septum.audit.parcel import Position
from septum.audit.schema import FILE
from septum.audit.store import Store
from septum.cli.audit import command
from septum.cli.moment import MOMENT
from septum.cli.record_lines import Layout
from septum.model.record import Record


def record(raw: bytes) -> Record:
    read = read_line(raw)
    assert isinstance(read, Line)
    return recorder().record(read, "n1")


FOLLOW = """
import pathlib, sys
from septum.cli.audit import command
command(["-f", "--denied"], obj=pathlib.Path(sys.argv[1]))
"""


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    (tmp_path / "septum.yaml").touch()
    (tmp_path / ".septum" / "records").mkdir(parents=True)
    return tmp_path


def store(mesh: Path, *lines: bytes) -> Store:
    found = Store(mesh / ".septum" / "records" / FILE)
    found.write("n1", [record(raw) for raw in lines], Position(), {})
    return found


def audit(mesh: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, obj=mesh, standalone_mode=True)


def test_the_end_user_is_shown_and_can_be_asked_for(mesh: Path) -> None:
    store(mesh, line(iss="https://login.test", sub="alice"), line(), denied(iss="https://login.test", sub="bob"))
    shown = audit(mesh, "--subject", "alice").stdout
    assert shown.count("\n") == 1
    assert "customers-orders [alice of https://login.test]" in shown
    fields = [json.loads(raw) for raw in audit(mesh, "--json").stdout.splitlines()]
    assert [(one["jwt_issuer"], one["jwt_subject"]) for one in fields] == [
        ("https://login.test", "alice"), ("", ""), ("https://login.test", "bob"),
    ]  # fmt: skip


def test_no_records_yet_is_said_with_what_to_do(mesh: Path) -> None:
    result = audit(mesh)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "septum up" in result.stderr


def test_records_are_aligned_lines_the_newest_last(mesh: Path) -> None:
    store(mesh, line(t="1764000000.25"), denied(t="1764000001.5", caller="spiffe://shop.test/ledger"))
    first, second = audit(mesh).stdout.splitlines()
    assert first.index("GET") == second.index("DELETE")
    assert first.split() == [
        *time.strftime("%m-%d %H:%M:%S", time.localtime(1764000000)).replace(":%S", "").split()[:1],
        time.strftime("%H:%M:%S", time.localtime(1764000000)) + ".250",
        *["allow", "storefront", "→", "orders", "GET", "/orders/42", "200", "1.5", "ms", "customers-orders"],
    ]
    assert second.endswith("no rule names ledger as a caller of orders")


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ([], 3),
        (["--denied"], 1),
        (["--allowed"], 2),
        (["--would-deny"], 1),
        (["--denied", "--would-deny"], 2),
        (["--from", "storefront", "--to", "orders"], 3),
        (["--caller", "orders"], 0),
        (["--rule", "customers-orders"], 3),
        (["--status", "403"], 1),
        (["--path", "admin"], 1),
        (["--request-id", "nobody"], 0),
        (["--since", "2025-11-24T16:00:01+00:00"], 2),
        (["--until", "2025-11-24T16:00:01+00:00"], 1),
        (["--since", "5m"], 0),
    ],
)
def test_filters_choose(mesh: Path, arguments: list[str], count: int) -> None:
    observed = line(t="1764000002", mode="observe", ep="septum.observe", sr="denied", path="/admin")
    store(mesh, line(t="1764000000"), denied(t="1764000001"), observed)
    assert audit(mesh, "--count", *arguments).stdout == f"{count}\n"


def test_json_is_one_object_a_line_with_every_field(mesh: Path) -> None:
    store(mesh, line(t="1764000000.123456"))
    (text,) = audit(mesh, "--json").stdout.splitlines()
    value = json.loads(text)
    assert value["seq"] == 1
    assert datetime.fromisoformat(value["time"]) == datetime(2025, 11, 24, 16, 0, 0, 123456, UTC)
    assert set(value) == {"seq", *Record._fields}


def test_the_limit_keeps_the_newest(mesh: Path) -> None:
    store(mesh, *(line(path=f"/orders/{number}") for number in range(5)))
    assert [json.loads(text)["path"] for text in audit(mesh, "--json", "-n", "2").stdout.splitlines()] == [
        "/orders/3",
        "/orders/4",
    ]


def test_nothing_that_matches_is_said(mesh: Path) -> None:
    store(mesh, line())
    assert audit(mesh, "--denied").stderr == "No record matches.\n"


@pytest.mark.parametrize("arguments", [["--allowed", "--denied"], ["--count", "-f"], ["--since", "yesterday"]])
def test_what_makes_no_sense_is_refused(mesh: Path, arguments: list[str]) -> None:
    assert audit(mesh, *arguments).exit_code == 2


def test_a_file_that_is_no_record_file_is_an_error_in_words(mesh: Path) -> None:
    (mesh / ".septum" / "records" / FILE).write_bytes(b"x" * 5000)
    result = audit(mesh)
    assert result.exit_code == 1
    assert "not a database" in result.stderr


def test_control_characters_of_a_path_do_not_reach_the_terminal(mesh: Path) -> None:
    store(mesh, denied(path="/\x1b[31m\u202e"))
    assert "/\\x1b[31m\\x202e" in audit(mesh).stdout


def test_follow_shows_what_comes_and_ends_cleanly_on_ctrl_c(mesh: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", FOLLOW, str(mesh)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        written = store(mesh, denied(path="/first"), line())
        assert "/first" in process.stdout.readline()
        written.write("n1", [record(line()), record(denied(path="/second"))], Position(), {})
        assert "/second" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors.strip()) == (0, "")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_lines_fit_the_terminal(width: int) -> None:
    records = [
        record(line()),
        record(denied(path="/orders/" + "x" * 200)),
        record(denied(caller="spiffe://shop.test/" + "y" * 60)),
        record(line(mode="observe", ep="septum.observe", sr="denied", path="/admin")),
    ]
    assert all(len(text) <= width for text in Layout(width, records[0].time).lines(records))


def test_a_reason_is_never_cut() -> None:
    long = record(denied(path="/orders/" + "x" * 200))
    shown = " ".join(part.strip() for part in Layout(80, long.time).lines([long])[1:])
    assert long.reason.replace(" ", "") in shown.replace(" ", "")


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("10m", 600), ("2h", 7200), ("1.5h", 5400), ("7d", 604800)])
def test_a_moment_ago(text: str, seconds: float) -> None:
    assert MOMENT.convert(text, None, None) == pytest.approx(time.time() - seconds, abs=5)
