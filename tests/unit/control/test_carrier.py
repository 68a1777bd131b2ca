"""Records come in by the same port, each call as the node that its certificate names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from septum.audit.parcel import Parcel, Position, Sample
from septum.audit.receive import Receiver
from septum.control.carrier import Carrier
from septum.rpc.messages import Nothing, decode, encode
from septum.rpc.server import CallRefused, Peer

pytestmark = pytest.mark.anyio
APP, DB = Peer("node", "app"), Peer("node", "db")
LINE = b"this is no record, and is kept as it is\n"


class NoPolicies:
    """Nobody can explain anything."""

    def policy_for(self, target: str | None, slice: str | None, time: float) -> None:
        """None is known."""


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    made = Receiver(tmp_path / "records.db", lambda: "shop.test", NoPolicies())
    yield made
    await made.close()


@pytest.fixture
def carrier(receiver: Receiver) -> Carrier:
    return Carrier(receiver)


def parcel(start: Position = Position(), data: bytes = LINE) -> Parcel:  # noqa: B008 - frozen
    return Parcel(start, data, start.after(data))


async def test_nodes_alone_may_ship(carrier: Carrier) -> None:
    operations = carrier.operations()
    assert operations.keys() == {"Position", "Take", "Account"}
    assert all(operation.kinds == {"node"} for operation in operations.values())


async def test_each_node_has_a_log_of_its_own(carrier: Carrier, receiver: Receiver) -> None:
    taken = await carrier.take(APP, parcel())
    assert taken == parcel().end == await carrier.position(APP, Nothing())
    assert await carrier.position(DB, Nothing()) == Position()
    assert receiver.kept()["app"].unreadable == 1


async def test_what_was_taken_already_changes_nothing(carrier: Carrier, receiver: Receiver) -> None:
    end = await carrier.take(APP, parcel())
    assert await carrier.take(APP, parcel()) == end
    assert receiver.kept()["app"].unreadable == 1
    assert (await carrier.take(APP, parcel(end))).offset == 2 * len(LINE)


async def test_counts_are_taken(carrier: Carrier) -> None:
    assert await carrier.account(APP, Sample("run", 0, 1.0, 2.0)) == Nothing()


async def test_the_messages_are_what_the_port_reads(carrier: Carrier) -> None:
    for name, message in (("Position", Nothing()), ("Take", parcel()), ("Account", Sample("run", 3, 1.0, 2.0))):
        operation = carrier.operations()[name]
        assert decode(encode(message), operation.takes) == message


async def test_a_record_that_cannot_be_written_is_worth_asking_again(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "not-there" / "records.db", lambda: "shop.test", NoPolicies())
    carrier = Carrier(receiver)
    for call in (
        carrier.position(APP, Nothing()),
        carrier.take(APP, parcel()),
        carrier.account(APP, Sample("run", 0, 1.0, 2.0)),
    ):
        with pytest.raises(CallRefused) as caught:
            await call
        assert caught.value.status is grpc.StatusCode.UNAVAILABLE
    await receiver.close()
