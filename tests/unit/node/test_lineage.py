"""What Envoys that hand over to one another keep outside of themselves."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path

import pytest

from septum.node import lineage
from septum.node.lineage import Epoch


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the memory of base 7 is, as Envoy makes it."""
    monkeypatch.setattr(lineage, "_MEMORY", tmp_path / "shm")
    (tmp_path / "shm").mkdir()
    file = tmp_path / "shm" / "envoy_shared_memory_70"
    file.write_bytes(struct.pack("<QQ80sQ", 104, 11, b"m" * 80, 0))
    return file


def test_a_failed_start_is_forgotten_and_nothing_else(memory: Path) -> None:
    fresh = memory.read_bytes()
    memory.write_bytes(fresh[:96] + struct.pack("<Q", 5))
    epoch = Epoch(7, 3)
    assert epoch.initializing()
    assert epoch.forget_failed()
    assert not epoch.initializing()
    assert memory.read_bytes() == fresh[:96] + struct.pack("<Q", 4)


@pytest.mark.parametrize(
    "content", [b"", b"x" * 104, struct.pack("<QQ80sQ", 104, 12, b"", 1), struct.pack("<QQ88sQ", 112, 11, b"", 1)]
)
def test_memory_that_is_not_understood_is_left_alone(memory: Path, content: bytes) -> None:
    memory.write_bytes(content)
    assert not Epoch(7, 3).forget_failed()
    assert memory.read_bytes() == content
    memory.unlink()
    assert not Epoch(7, 3).forget_failed()


def test_a_lineage_begins_under_a_name_that_nobody_has(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([7, 8])
    monkeypatch.setattr("secrets.randbelow", lambda _: next(drawn))
    assert lineage.begin() == Epoch(8, 0)
    assert Epoch(8, 0).next() == Epoch(8, 1)
    assert 10 * lineage._BASES + 2 < 1 << 31, "Envoy names the sockets by another number then"


def test_nothing_is_left_of_one_that_has_ended(memory: Path, tmp_path: Path) -> None:
    for name in ("hot_parent_70", "hot_udp_child_71", "hot_sink", "admin.sock"):
        (tmp_path / name).touch()
    lineage.end(tmp_path, 7)
    assert not memory.exists()
    assert {file.name for file in tmp_path.iterdir()} == {"shm", "admin.sock"}
    lineage.end(tmp_path, 7)
    lineage.end(tmp_path, None)


def test_what_is_said_to_one_that_has_gone_arrives_in_the_sink(tmp_path: Path) -> None:
    """Also where paths are longer than a socket's may be."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with lineage.make_sink(deep) as sink, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        lineage.put_sink(deep, Epoch(7, 5))
        lineage.put_sink(deep, Epoch(7, 5))
        assert [file.name for file in deep.iterdir()] == ["hot_parent_72"]
        Epoch(7, 5).socket(deep).rename(tmp_path / "s")
        sender.sendto(b"end", str(tmp_path / "s"))
        assert sink.recv(10) == b"end"


def test_the_arguments_of_an_epoch() -> None:
    words = Epoch(7, 3).arguments("run1", 60.4)
    given = dict(zip(words[::2], words[1::2], strict=False))
    assert (given["--base-id"], given["--restart-epoch"]) == ("7", "3")
    assert "--skip-hot-restart-parent-stats" in words
    assert words[words.index("--parent-shutdown-time-s") + 1] == "60"
    assert not [word for word in words if word.startswith("/")], "a socket's path is limited to 107 bytes"
    override = json.loads(words[words.index("--config-yaml") + 1])
    assert override["node"]["metadata"] == {"run": "run1", "epoch": 3}
    assert override["dynamic_resources"]["lds_config"] == {"initial_fetch_timeout": "0s"}
