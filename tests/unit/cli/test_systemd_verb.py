"""The units: what they promise, read strictly; and what systemd itself says of them, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from septum.cli.systemd import UNITS, command, unit

SERVICES = pytest.mark.parametrize("service", list(UNITS))
ANALYZE = shutil.which("systemd-analyze")
WITH_SYSTEMD = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed; the strict reader has run")
# A program that is on every machine, since systemd looks whether it is there; this tree may be in somebody's home.
HERE = Path("/usr/bin/env")
PYTHON = Path("/usr/bin/python3")

# Every directive that a unit of ours may have, by section (systemd.unit(5), systemd.service(5), systemd.exec(5),
# systemd.kill(5)): systemd ignores one that is misspelt, and the protection with it.
DIRECTIVES = {
    "Unit": {"Description", "Documentation", "Wants", "After", "StartLimitIntervalSec"},
    "Service": {
        *("Type", "User", "EnvironmentFile", "LoadCredential", "SetCredential", "ExecStart", "Restart", "RestartSec"),
        *("RestartPreventExitStatus", "KillMode", "OOMPolicy", "TimeoutStopSec", "StateDirectory"),
        *("StateDirectoryMode", "UMask", "LimitCORE", "LimitNOFILE", "NoNewPrivileges", "AmbientCapabilities"),
        *("CapabilityBoundingSet", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectClock"),
        *("ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules"),
        *("ProtectKernelTunables", "ProtectProc", "RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime"),
        *("RestrictSUIDSGID", "LockPersonality", "MemoryDenyWriteExecute", "RemoveIPC", "SystemCallArchitectures"),
        *("SystemCallFilter", "SystemCallErrorNumber"),
    },
    "Install": {"WantedBy"},
}
# Those that may stand twice: systemd adds the second to the first. Of any other the last one counts.
ADDED = {"SystemCallFilter"}


def read(text: str) -> dict[str, list[str]]:
    """`Section.Directive` to its values. Whatever is not understood fails the test."""
    values: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        assert len(line) < 2048
        assert not line.endswith("\\")
        if line.startswith("["):
            section = line[1:-1]
            assert line == f"[{section}]"
            assert section in DIRECTIVES
            continue
        name, equals, value = line.partition("=")
        assert equals
        assert name in DIRECTIVES[section], f"[{section}] {name}"
        assert f"{section}.{name}" not in values or name in ADDED, f"{name} twice"
        values.setdefault(f"{section}.{name}", []).append(value)
    return values


def service_values(service: str) -> dict[str, str]:
    values = read(unit(service, HERE, PYTHON))
    return {name.removeprefix("Service."): " ".join(of) for name, of in values.items() if name.startswith("Service.")}


HARDENED = {
    "NoNewPrivileges": "yes",
    "AmbientCapabilities": "",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "MemoryDenyWriteExecute": "yes",
    "LimitCORE": "0",
    "UMask": "0077",
    "StateDirectoryMode": "0700",
    "SystemCallArchitectures": "native",
    "Restart": "on-failure",
}


@SERVICES
def test_the_service_may_do_no_more_than_it_needs(service):
    values = service_values(service)
    assert {name: values[name] for name in HARDENED} == HARDENED
    assert values["SystemCallFilter"].startswith("@system-service")
    assert values["SystemCallFilter"].endswith("~@privileged @resources")
    assert values["User"] == f"septum-{service}"


def test_an_envoy_outlives_a_killed_supervisor_and_nothing_outlives_a_control_plane():
    node, control = service_values("node"), service_values("control")
    assert (node["KillMode"], node["OOMPolicy"]) == ("process", "continue")
    assert control["KillMode"] == "mixed"
    # A supervisor ends Envoy and the agent one after the other, with 8 s for each (Child.stop).
    assert int(node["TimeoutStopSec"]) > 2 * 8


def test_what_is_started():
    assert service_values("control")["ExecStart"] == (
        f"{HERE} -C /var/lib/septum/%i control --listen 0.0.0.0:7400 --metrics 127.0.0.1:9464"
    )
    assert service_values("node")["ExecStart"] == (
        f"{HERE} node --state /var/lib/septum/node --control ${{SEPTUM_CONTROL}} --join %d/join"
        " --metrics 127.0.0.1:9465"
    )


@SERVICES
def test_the_state_is_where_the_command_line_says(service):
    values = service_values(service)
    assert f"/var/lib/{values['StateDirectory']} " in values["ExecStart"]


def test_the_join_token_is_on_no_command_line_and_may_be_gone():
    values = service_values("node")
    assert values["LoadCredential"] == "join:/etc/septum/join"
    assert values["SetCredential"] == "join:\\n"
    assert "TOKEN" not in values["ExecStart"]


@SERVICES
def test_the_verb_prints_the_unit_of_its_own_installation(service, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.touch()
    monkeypatch.setattr(sys, "executable", str(python))
    ran = CliRunner().invoke(command, [service])
    assert (ran.exit_code, ran.output) == (0, unit(service, tmp_path / "septum", python))
    assert f"ExecStart={tmp_path}/septum " in ran.output


def test_an_interpreter_that_services_cannot_reach_is_found_behind_a_link(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.symlink_to("/home/ada/python")
    monkeypatch.setattr(sys, "executable", str(python))
    ran = CliRunner().invoke(command, ["node"])
    assert ran.exit_code == 1
    assert "/home/ada/python is hidden from services" in ran.output


@pytest.mark.parametrize("place", ["/root/venv/bin/septum", "/home/ada/venv/bin/septum"])
def test_a_program_that_services_cannot_reach_is_an_error(place):
    with pytest.raises(click.ClickException, match="hidden from services"):
        unit("node", Path(place), PYTHON)


@pytest.mark.parametrize("place", ["/opt/my septum/bin/septum", "/opt/100%/septum", "/opt/$x/septum", "/opt/a\nb"])
def test_a_path_that_systemd_would_read_in_its_own_way_is_an_error(place):
    with pytest.raises(click.ClickException, match="in its own way"):
        unit("node", Path(place), PYTHON)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The units as files, starting a program that exists."""
    written = []
    for service, name in UNITS.items():
        written.append(tmp_path / name)
        written[-1].write_text(unit(service, HERE, PYTHON))
    return written


def analyze(*arguments: str | Path) -> tuple[int, str]:
    ran = subprocess.run([str(ANALYZE), *map(str, arguments)], capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout + ran.stderr


@WITH_SYSTEMD
def test_systemd_finds_nothing_wrong(files):
    # It warns of a line that it ignores, and ends with 0 all the same: silence is what counts.
    assert analyze("verify", "--man=no", *files) == (0, "")


@WITH_SYSTEMD
def test_systemd_finds_what_is_wrong(files):
    files[1].write_text(files[1].read_text().replace("ProtectSystem=strict", "ProtectSytem=strict"))
    assert "ProtectSytem" in analyze("verify", "--man=no", files[1])[1]


@WITH_SYSTEMD
@pytest.mark.parametrize("index", [0, 1], ids=list(UNITS))
def test_the_exposure_that_systemd_sees_is_low(files, index):
    # The scale ends at 10.0 (100 here); a unit without any protection has 9.6.
    status, said = analyze("security", "--offline=true", "--threshold=16", "--no-pager", files[index])
    assert status == 0, said
