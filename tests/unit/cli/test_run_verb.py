"""`septum run`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Ran, septum
from fakes.control_plane import FakeControlPlane, status


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "septum.yaml").touch()
    with FakeControlPlane(tmp_path, {"status": status()}):
        yield tmp_path


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    """What this process would have become."""
    calls: list[tuple[tuple[str, ...], dict[str, str]]] = []

    def become(words: tuple[str, ...], made: dict[str, str]) -> int:
        calls.append((words, made))
        return 0

    monkeypatch.setattr("septum.cli.run._become", become)
    return calls


def run(mesh: Path, *arguments: str) -> Ran:
    return septum("run", *arguments, cwd=mesh)


def test_the_program_gets_its_own_listener(mesh: Path, became: list) -> None:
    assert run(mesh, "--as", "front", "--", "true", "-x").status == 0
    ((words, made),) = became
    assert words == ("true", "-x")
    assert made["http_proxy"] == made["HTTP_PROXY"] == made["grpc_proxy"] == "http://127.0.0.1:9151"
    assert (made["no_proxy"], made["SEPTUM_WORKLOAD"]) == ("", "front")
    assert made["SEPTUM_DIAL_BIG_STORE"] == "127.0.0.1:9201"


@pytest.mark.parametrize("external", [True, False])
def test_calls_to_the_outside_are_seen_where_the_mesh_says_what_is_there(
    tmp_path: Path, became: list, external: bool
) -> None:
    (tmp_path / "septum.yaml").touch()
    with FakeControlPlane(tmp_path, {"status": {**status(), "external": external}}):
        assert run(tmp_path, "--as", "front", "--", "true").status == 0
    ((_, made),) = became
    assert ("https_proxy" in made) is external
    assert made.get("all_proxy", "http://127.0.0.1:9151") == "http://127.0.0.1:9151"


@pytest.mark.parametrize(
    "words", [("sh", "--env"), ("sh", "--as", "big-store"), ("sh", "-h"), ("sh", "-c", "true"), ("sh", "--", "x")]
)
def test_what_follows_the_program_is_the_program_s(mesh: Path, became: list, words: tuple[str, ...]) -> None:
    assert run(mesh, "--as", "front", "--", *words).status == 0
    assert run(mesh, "--as", "front", *words).status == 0
    assert [called for called, _ in became] == [words, words]


def test_the_variables_can_be_had_as_exports(mesh: Path, became: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_OPTIONS", "--title='a b'")
    ran = run(mesh, "--as", "front", "--env")
    assert ran.status == 0
    exports = dict(shlex.split(line)[1].split("=", 1) for line in ran.out.splitlines())
    assert all(line.startswith("export ") for line in ran.out.splitlines())
    assert exports["http_proxy"] == "http://127.0.0.1:9151"
    assert exports["NODE_OPTIONS"].startswith("--title='a b' --require ")
    assert "PATH" not in exports
    assert became == []


def test_a_workload_that_is_not_there(mesh: Path, became: list) -> None:
    ran = run(mesh, "--as", "frnt", "--", "true")
    assert (ran.status, "no workload is called `frnt`; there are front, big-store" in ran.err) == (2, True)
    assert became == []


def test_a_program_that_is_not_there(mesh: Path, became: list) -> None:
    ran = run(mesh, "--as", "front", "--", "no-such-program-here")
    assert (ran.status, "there is no program `no-such-program-here`" in ran.err) == (1, True)
    assert became == []


def test_nothing_to_run(mesh: Path) -> None:
    ran = run(mesh, "--as", "front")
    assert (ran.status, "name the program to run" in ran.err) == (2, True)
    assert run(mesh, "--", "true").status == 2


def test_a_mesh_that_is_not_up(tmp_path: Path) -> None:
    (tmp_path / "septum.yaml").touch()
    ran = run(tmp_path, "--as", "front", "--", "true")
    assert (ran.status, f"septum up {tmp_path}" in ran.err) == (1, True)
