"""The client of the Workload API: where it finds it, what it says when it is away, and what it keeps."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from aio import WITHIN, runs
from fakes.workload_api import FakeSpire, authority, svid
from septum.identity.spire.address import VARIABLE, WorkloadApiError, socket_path, why_away
from septum.identity.spire.answer import Update
from septum.identity.spire.source import Pace, WorkloadApi

ORDERS, PAYMENTS = "spiffe://shop.test/orders", "spiffe://shop.test/payments"
ROOT = authority("root")
DENIED = grpc.StatusCode.PERMISSION_DENIED
QUICK = Pace(pauses=(0.001, 0.01), answer=WITHIN, denied=30.0)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sx-", dir="/tmp") as path:  # a test's own may lie too deep for a socket
        yield Path(path)


class Followed:
    """A source being followed: its updates, and its troubles as they come."""

    def __init__(self, path: Path, pace: Pace) -> None:
        self.troubles: asyncio.Queue[str] = asyncio.Queue()
        self.source = WorkloadApi(f"unix://{path}", self.troubles.put_nowait, pace)
        self._updates: asyncio.Queue[Update] = asyncio.Queue()

    async def follow(self) -> None:
        async for update in self.source.updates():
            self._updates.put_nowait(update)

    async def update(self) -> Update:
        async with asyncio.timeout(WITHIN):
            return await self._updates.get()

    async def trouble(self) -> str:
        async with asyncio.timeout(WITHIN):
            return await self.troubles.get()

    def nothing_came(self) -> bool:
        return self._updates.empty()


@asynccontextmanager
async def followed(path: Path, pace: Pace = QUICK) -> AsyncIterator[Followed]:
    following = Followed(path, pace)
    task = asyncio.create_task(following.follow())
    try:
        yield following
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def test_the_address_is_a_unix_socket_or_that_of_the_environment():
    assert socket_path("unix:///run/spire/api.sock", {}) == "/run/spire/api.sock"
    assert socket_path("unix:/run/spire/api.sock", {}) == "/run/spire/api.sock"
    assert socket_path("", {VARIABLE: "unix:///env.sock"}) == "/env.sock"
    assert socket_path("unix:///given.sock", {VARIABLE: "unix:///env.sock"}) == "/given.sock"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", VARIABLE),
        ("tcp://127.0.0.1:8081", "a Unix socket only"),
        ("/run/spire/api.sock", "unix:///absolute/path"),
        ("unix://host/api.sock", "unix:///absolute/path"),
        ("unix:relative.sock", "unix:///absolute/path"),
        ("unix:///a?b", "unix:///absolute/path"),
        ("unix://[/a", "unix://[/a"),
        ("unix:///" + "x" * 107, "at most 107 bytes"),
    ],
)
def test_no_other_address_is_taken(address, says):
    with pytest.raises(WorkloadApiError) as error:
        socket_path(address, {})
    assert says in str(error.value)


def test_the_reason_is_that_of_the_socket(directory):
    path = directory / "api.sock"
    assert "is the SPIRE agent running" in why_away(str(path))
    path.touch()
    assert "nobody listens" in why_away(str(path))
    assert "cannot be used" in why_away(str(path / "x"))


@runs
async def test_a_socket_that_is_not_there_yet_is_waited_for(directory):
    path = directory / "api.sock"
    async with followed(path) as following:
        assert f"there is no socket {path}" in await following.trouble()
        assert following.source.trouble
        with FakeSpire(path) as spire:
            spire.give(svid(ORDERS, [ROOT]))
            assert set((await following.update()).svids) == {ORDERS}
            while await following.trouble():
                pass
            assert following.source.trouble == ""


@runs
async def test_the_last_is_kept_while_spire_restarts_and_the_same_is_not_told_again(directory):
    path, one = directory / "api.sock", svid(ORDERS, [ROOT])
    async with followed(path) as following:
        with FakeSpire(path) as spire:
            spire.give(one)
            first = await following.update()
        assert await following.trouble() != ""
        with FakeSpire(path) as spire:
            spire.give(one)
            while await following.trouble():
                pass
            assert following.nothing_came()
            spire.give(svid(ORDERS, [ROOT]))
            assert (await following.update()).svids != first.svids


@runs
async def test_an_answer_that_cannot_be_used_leaves_the_last_and_the_stream(directory):
    with FakeSpire(directory / "api.sock") as spire:
        spire.give(svid(ORDERS, [ROOT]))
        async with followed(spire.path) as following:
            await following.update()
            spire.give(svid(PAYMENTS, [ROOT], said=ORDERS))
            assert "is not used" in await following.trouble()
            assert following.nothing_came()
            spire.give(svid(PAYMENTS, [ROOT]))
            assert set((await following.update()).svids) == {PAYMENTS}
            assert await following.trouble() == ""
            assert spire.calls == 1


@runs
async def test_without_an_identity_it_says_how_to_register_one(directory):
    with FakeSpire(directory / "api.sock") as spire:
        async with followed(spire.path) as following:
            trouble = await following.trouble()
            assert "no identity issued" in trouble
            assert "spire-server entry create" in trouble
            assert following.nothing_came()


@runs
async def test_a_denial_of_a_moment_changes_nothing(directory):
    with FakeSpire(directory / "api.sock") as spire:
        one = svid(ORDERS, [ROOT])
        spire.give(one)
        async with followed(spire.path) as following:
            await following.update()
            spire.fail(DENIED, "no identity issued")
            assert "no identity" in await following.trouble()
            spire.give(one)
            assert await following.trouble() == ""
            assert following.nothing_came()


@runs
async def test_a_denial_that_lasts_withdraws_the_svids_and_leaves_the_roots(directory):
    with FakeSpire(directory / "api.sock") as spire:
        spire.give(svid(ORDERS, [ROOT]))
        async with followed(spire.path, Pace(QUICK.pauses, WITHIN, denied=0.05)) as following:
            first = await following.update()
            spire.fail(DENIED, "no identity issued")
            assert await following.update() == Update({}, first.roots, first.crls, first.federated)
            spire.give(svid(ORDERS, [ROOT]))
            assert set((await following.update()).svids) == {ORDERS}


@runs
async def test_an_api_that_does_not_answer_is_left_and_asked_again(directory):
    with FakeSpire(directory / "api.sock") as spire:
        spire.be_silent()
        async with followed(spire.path, Pace(QUICK.pauses, answer=0.05)) as following:
            assert "gives nothing now (no answer came)" in await following.trouble()
            spire.give(svid(ORDERS, [ROOT]))
            assert set((await following.update()).svids) == {ORDERS}


@runs
async def test_an_api_that_is_not_ready_is_asked_again(directory):
    with FakeSpire(directory / "api.sock") as spire:
        spire.fail(grpc.StatusCode.UNAVAILABLE, "still attesting")
        async with followed(spire.path) as following:
            assert "still attesting" in await following.trouble()
            spire.give(svid(ORDERS, [ROOT]))
            assert set((await following.update()).svids) == {ORDERS}


@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED])
@runs
async def test_a_stream_that_the_other_side_ends_is_opened_again(directory, code):
    with FakeSpire(directory / "api.sock") as spire:
        spire.give(svid(ORDERS, [ROOT]))
        async with followed(spire.path) as following:
            await following.update()
            spire.fail(code, "told to")
            assert str(directory) in await following.trouble()
            spire.give(svid(PAYMENTS, [ROOT]))
            assert set((await following.update()).svids) == {PAYMENTS}


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED])
@runs
async def test_what_is_no_workload_api_ends_it_with_an_error(directory, code):
    with FakeSpire(directory / "api.sock") as spire:
        spire.fail(code, "told to")
        source = WorkloadApi(spire.address, print, QUICK)
        with pytest.raises(WorkloadApiError, match="name the socket of the SPIRE agent"):
            async with asyncio.timeout(WITHIN):
                await anext(source.updates())


@runs
async def test_an_update_keeps_its_time_of_life(directory):
    with FakeSpire(directory / "api.sock") as spire:
        spire.give(svid(ORDERS, [ROOT]))
        async with followed(spire.path) as following:
            one = (await following.update()).svids[ORDERS]
            assert one.not_after - one.not_before == 3660
