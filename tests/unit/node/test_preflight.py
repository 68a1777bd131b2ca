"""What is known of an Envoy before it is tried."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from septum.node import preflight

pytestmark = pytest.mark.anyio
ENVIRONMENT = {"PATH": os.defpath}


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_one_that_is_not_there_cannot_take_over(tmp_path: Path) -> None:
    reason = await preflight.check([str(tmp_path / "no")], tmp_path, ENVIRONMENT, os.getpid())
    assert "no is no Envoy that runs here" in reason
    assert "No such file" in reason


async def test_a_version_that_cannot_be_compared_is_another_one(tmp_path: Path) -> None:
    envoy = script(tmp_path / "envoy", "echo 11.104")
    reason = await preflight.check([envoy], tmp_path, ENVIRONMENT, os.getpid())
    assert "speaks version 11.104 of hot restart" in reason
    assert "only a restart replaces it" in reason


async def test_a_bootstrap_is_tried_with_the_whole_command_line_and_the_log_on_the_output(tmp_path: Path) -> None:
    envoy = script(tmp_path / "envoy", 'echo "$@"; echo wrong; exit 1')
    reason = await preflight.accepts([envoy, "-c", "x", "--log-path", "y", "-l", "z"], tmp_path, ENVIRONMENT)
    assert reason.endswith("envoy does not accept the bootstrap: wrong")
    script(tmp_path / "envoy", '[ "$*" = "-c x -l z --mode validate" ]')
    assert await preflight.accepts([envoy, "-c", "x", "--log-path", "y", "-l", "z"], tmp_path, ENVIRONMENT) == ""


async def test_one_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_LONGEST", 0.1)
    said = await preflight.ask(["/usr/bin/env", "sleep", "60"], tmp_path, ENVIRONMENT)
    assert (said.status, "no answer within" in said.text) == (None, True)


@pytest.mark.parametrize(
    ("says", "version"),
    [("envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL", "1.40.0"), ("hello", ""), ("version: x", "")],
)
async def test_the_version_of_an_envoy(tmp_path: Path, says: str, version: str) -> None:
    assert await preflight.version(script(tmp_path / "envoy", f"echo; echo '{says}'")) == version
    assert await preflight.version(str(tmp_path / "no")) == ""
