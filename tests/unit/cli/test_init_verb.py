"""`septum init`."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import Ran, septum
from septum.control.files import read_mesh_dir
from septum.node.listening import Listening
from septum.policy.load import load


def init(directory: Path, *arguments: str, found: tuple[Listening, ...] = ()) -> Ran:
    with patch("septum.cli.init.listening_ports", lambda: found):
        return septum("init", *arguments, cwd=directory)


def written(directory: Path) -> dict[str, object]:
    """Workload → address, of a mesh in which nothing is wrong."""
    loaded = load(read_mesh_dir(directory))
    assert loaded.errors == ()
    assert loaded.policy is not None
    return {name: str(workload.at) for name, workload in loaded.policy.mesh.workloads.items()}


def test_what_listens_becomes_the_workloads(tmp_path: Path) -> None:
    found = (
        Listening(5432, "127.0.0.1", "postgres", 7),
        Listening(8001, "0.0.0.0", "Orders_Service", 8),
        Listening(8002, "10.0.0.5", "web", 9),
        Listening(8003, "::", "web", 9),
        Listening(8004, "::1", "v6", 10),
        Listening(9000, "127.0.0.1", "", 0),
        Listening(9001, "127.0.0.1", "envoy", 11),
    )
    ran = init(tmp_path, "shop", found=found)
    assert (ran.status, ran.err) == (0, "")
    assert written(tmp_path / "shop") == {
        "postgres": "127.0.0.1:5432",
        "orders-service": "127.0.0.1:8001",
        "web-8002": "10.0.0.5:8002",
        "web-8003": "127.0.0.1:8003",
        "v6": "[::1]:8004",
    }
    text = (tmp_path / "shop" / "septum.yaml").read_text()
    assert "postgres: {segment: core, at: 127.0.0.1:5432, protocol: tcp}  # pid 7" in text
    assert "mesh: shop" in text
    assert "0.0.0.0:8001  Orders_Service (pid 8)" in ran.out
    assert "`septum up shop`." in ran.out


def test_it_really_looks(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ran = septum("init", cwd=tmp_path)
        assert f"127.0.0.1:{listener.getsockname()[1]}" in ran.out
        assert f"(pid {os.getpid()})" in ran.out
        assert f"127.0.0.1:{listener.getsockname()[1]}" in written(tmp_path).values()


def test_nothing_listens(tmp_path: Path) -> None:
    ran = init(tmp_path)
    assert "Nothing listens" in ran.out
    assert written(tmp_path) == {"frontend": "127.0.0.1:8001", "backend": "127.0.0.1:8002"}


@pytest.mark.parametrize(
    ("found", "asks"),
    [
        ((), "from: frontend\n  to: backend\n  http: GET /\n"),
        ((Listening(5432, "127.0.0.1", "only", 1),), "from: only\n  to: only\n  connect: true\n"),
        ((Listening(80, "::1", "a", 1), Listening(81, "::1", "b", 1)), "from: a\n  to: b\n  http: GET /\n"),
    ],
)
def test_a_test_comes_with_it_and_passes(found: tuple[Listening, ...], asks: str, tmp_path: Path) -> None:
    init(tmp_path, "shop", found=found)
    assert asks in (tmp_path / "shop" / "policy" / "shop_test.yaml").read_text()
    ran = septum("-C", "shop", "test", cwd=tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert "1 passed" in ran.out
    assert septum("check", "shop", cwd=tmp_path).status == 0


def test_no_test_is_written_beside_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "septum.yaml").write_text("mine")
    init(tmp_path)
    assert [path.name for path in (tmp_path / "policy").iterdir() if path.name.endswith("_test.yaml")] == []


def test_everything_is_observed_and_nothing_allowed_at_first(tmp_path: Path) -> None:
    init(tmp_path)
    policy = load(read_mesh_dir(tmp_path)).policy
    assert policy is not None
    assert (policy.mesh.enforced, policy.rules) == (frozenset(), ())


def test_the_example_rule_in_the_comment_is_one(tmp_path: Path) -> None:
    init(tmp_path, found=(Listening(8001, "127.0.0.1", "a", 1), Listening(8002, "127.0.0.1", "b", 2)))
    (policy,) = (path for path in (tmp_path / "policy").iterdir() if not path.name.endswith("_test.yaml"))
    lines = policy.read_text().splitlines()
    start = lines.index("# allow:")
    policy.write_text("\n".join(line.removeprefix("# ") for line in lines[start:-1]))
    assert load(read_mesh_dir(tmp_path)).errors == ()


@pytest.mark.parametrize("found", [(), (Listening(8001, "127.0.0.1", "only", 1),)])
def test_files_that_are_there_stay_as_they_are(tmp_path: Path, found: tuple[Listening, ...]) -> None:
    (tmp_path / "septum.yaml").write_text("mine")
    ran = init(tmp_path, found=found)
    assert ran.status == 0
    assert "septum.yaml is there already and stays as it is" in ran.out
    assert (tmp_path / "septum.yaml").read_text() == "mine"
    again = init(tmp_path, found=found)
    assert again.out.count("is there already") == 2
    assert "wrote" not in again.out


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = init(tmp_path, "file/below")
    assert ran.status == 1
    assert "cannot write" in ran.err
    assert "Not a directory" in ran.err


@pytest.mark.parametrize("name", ["My Shop!", "123", "_x_", "---", "été", "a" * 200])
def test_a_directory_of_any_name(tmp_path: Path, name: str) -> None:
    assert init(tmp_path, f"./{name}").status == 0
    assert written(tmp_path / name)


PROCESSES = st.sampled_from(
    ["web", "web-80", "web-81", "septum", "localhost", "(sd-pam)", "7z", "x" * 39 + "-y", "ünï"]
)
HOSTS = st.sampled_from(["127.0.0.1", "0.0.0.0", "::", "::1", "10.0.0.1", "fd00::1", "::ffff:127.0.0.1"])
FOUND = st.builds(
    Listening, st.integers(1, 65535) | st.sampled_from([80, 81]), HOSTS, PROCESSES | st.text(), st.just(1)
)


@given(st.lists(FOUND, unique_by=lambda entry: entry.port, max_size=6))
def test_whatever_listens_the_mesh_is_valid_and_has_it(found: list[Listening]) -> None:
    with tempfile.TemporaryDirectory() as place:
        init(Path(place), found=tuple(found))
        known = [entry for entry in found if entry.process and entry.process != "envoy"]
        ports = [str(address).rpartition(":")[2] for address in written(Path(place)).values()]
        assert ports == ([str(entry.port) for entry in known] or ["8001", "8002"])


def test_what_is_written_is_laid_out_as_fmt_does(tmp_path: Path) -> None:
    assert septum("init", cwd=tmp_path).status == 0
    assert septum("fmt", "--check", cwd=tmp_path).status == 0
