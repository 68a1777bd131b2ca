"""What a program that runs as a workload finds in its environment."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from septum.model.mesh import Address
from septum.node import environment as module
from septum.node.environment import environment

OUTBOUND, DIALS = Address("127.0.0.1", 9151), {"big-store": Address("127.0.0.1", 9201)}


def made(**given: str) -> dict[str, str]:
    return environment(given, "front", OUTBOUND, DIALS)


def test_plain_http_and_grpc_go_through_the_listener_and_https_does_not() -> None:
    variables = made()
    names = ("http_proxy", "HTTP_PROXY", "grpc_proxy", "ws_proxy")
    assert {variables[name] for name in names} == {"http://127.0.0.1:9151"}
    assert not {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"} & variables.keys()


def test_everything_goes_through_the_listener_where_the_mesh_says_what_is_outside() -> None:
    variables = environment({"https_proxy": "http://corporate:3128"}, "front", OUTBOUND, DIALS, outside=True)
    names = ("http_proxy", "https_proxy", "HTTPS_PROXY", "wss_proxy", "all_proxy", "ALL_PROXY")
    assert {variables[name] for name in names} == {"http://127.0.0.1:9151"}


def test_what_excludes_loopback_is_emptied() -> None:
    variables = made(no_proxy="localhost,127.0.0.1", NO_PROXY="*")
    assert (variables["no_proxy"], variables["NO_PROXY"], variables["no_grpc_proxy"]) == ("", "", "")


def test_the_rest_stays() -> None:
    variables = made(PATH="/bin", https_proxy="http://corporate:3128")
    assert (variables["PATH"], variables["https_proxy"]) == ("/bin", "http://corporate:3128")


def test_it_says_who_the_program_is_and_where_its_tcp_workloads_are() -> None:
    variables = made()
    assert (variables["SEPTUM_WORKLOAD"], variables["SEPTUM_OUTBOUND"]) == ("front", "127.0.0.1:9151")
    assert variables["SEPTUM_DIAL_BIG_STORE"] == "127.0.0.1:9201"


def test_an_ipv6_listener_is_a_url_too() -> None:
    variables = environment({}, "front", Address("::1", 9151), {})
    assert variables["http_proxy"] == "http://[::1]:9151"


def test_options_of_node_that_are_there_stay() -> None:
    words = shlex.split(made(NODE_OPTIONS="--max-old-space-size=64")["NODE_OPTIONS"])
    assert words[:2] == ["--max-old-space-size=64", "--require"]
    assert Path(words[2]).is_file()


def test_node_loads_the_preload_also_from_a_path_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = shutil.which("node")
    assert node, "apt-get install nodejs"
    place = tmp_path / 'a "quoted" place \\ with spaces'
    place.mkdir()
    shutil.copy(module._PRELOAD, place / "node_proxy.cjs")
    monkeypatch.setattr(module, "_PRELOAD", place / "node_proxy.cjs")
    ran = subprocess.run(
        [node, "-e", "console.log('ran')"], env=made(), capture_output=True, text=True, check=False, timeout=20
    )
    assert (ran.stdout, ran.stderr) == ("ran\n", "")


def test_python_s_own_reading_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in made(no_proxy="localhost").items():
        monkeypatch.setenv(name, value)
    assert urllib.request.getproxies()["http"] == "http://127.0.0.1:9151"
    assert not urllib.request.proxy_bypass("127.0.0.1")
    assert not urllib.request.proxy_bypass("orders")
