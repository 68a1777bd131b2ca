"""The fake SPIRE against the client of the `spiffe` package, and ours against the fake: the same cases for both.

What the independent client sees on the fake is what a client sees on SPIRE, so what ours sees there counts.
"""

from __future__ import annotations

import asyncio
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from google.protobuf.descriptor_pb2 import DescriptorProto
from spiffe import WorkloadApiClient
from spiffe._proto import workload_pb2

from aio import WITHIN, to_its_end
from fakes.workload_api import FakeSpire, authority, svid
from septum.identity.spire import messages
from septum.identity.spire.address import WorkloadApiError
from septum.identity.spire.source import WorkloadApi

DOMAIN = "shop.test"
ORDERS, PAYMENTS = f"spiffe://{DOMAIN}/orders", f"spiffe://{DOMAIN}/payments"


@dataclass(frozen=True)
class Seen:
    """What a client makes of an answer: serial numbers of each chain, those of the roots; every key was its leaf's."""

    chains: dict[str, list[int]]
    roots: dict[str, set[int]]


class Reader:
    """What a client that follows the stream has seen, one after the other: an answer, or its trouble."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Seen | str] = queue.Queue()

    def next(self) -> Seen | str:
        return self.queue.get(timeout=WITHIN)

    def until(self, kind: type) -> Any:
        while not isinstance(seen := self.next(), kind):
            pass
        return seen


def _ours(update: Any) -> Seen:
    chains = {}
    for spiffe_id, one in update.svids.items():
        chain = x509.load_pem_x509_certificates(one.chain)
        assert load_pem_private_key(one.key, None).public_key() == chain[0].public_key()
        chains[spiffe_id] = [certificate.serial_number for certificate in chain]
    roots = {of: {c.serial_number for c in x509.load_pem_x509_certificates(pem)} for of, pem in update.roots.items()}
    return Seen(chains, roots)


@contextmanager
def ours(address: str) -> Iterator[Reader]:
    reader, running = Reader(), threading.Event()
    stop: list[Callable[[], object]] = []

    async def follow() -> None:
        source = WorkloadApi(address, lambda trouble: reader.queue.put(trouble) if trouble else None)
        try:
            async for update in source.updates():
                reader.queue.put(_ours(update))
        except WorkloadApiError as error:
            reader.queue.put(str(error))

    async def until_stopped() -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(stopping.set))
        running.set()
        task = asyncio.create_task(follow())
        await stopping.wait()
        task.cancel()

    thread = threading.Thread(target=asyncio.run, args=(to_its_end(until_stopped()),))
    thread.start()
    try:
        assert running.wait(WITHIN)
        yield reader
    finally:
        stop[0]()
        thread.join(WITHIN)
        assert not thread.is_alive()


def _theirs(context: Any) -> Seen:
    chains = {}
    for one in context.x509_svids:
        assert one.private_key.public_key() == one.leaf.public_key()
        chains.setdefault(str(one.spiffe_id), [certificate.serial_number for certificate in one.cert_chain])
    bundles = context.x509_bundle_set.bundles
    own = {one.spiffe_id.trust_domain for one in context.x509_svids}
    roots = {
        b.trust_domain.name: {c.serial_number for c in b.x509_authorities} for b in bundles if b.trust_domain in own
    }
    return Seen(chains, roots)


@contextmanager
def theirs(address: str) -> Iterator[Reader]:
    reader = Reader()
    with WorkloadApiClient(address) as client:
        following = client.stream_x509_contexts(
            lambda context: reader.queue.put(_theirs(context)), lambda error: reader.queue.put(str(error))
        )
        try:
            yield reader
        finally:
            following.cancel()


CLIENTS = pytest.mark.parametrize("client", [ours, theirs])


@pytest.fixture
def spire() -> Iterator[FakeSpire]:
    # Not the test's own directory, which may lie too deep for the path of a socket.
    with tempfile.TemporaryDirectory(prefix="sx-", dir="/tmp") as directory, FakeSpire(Path(directory) / "s") as fake:
        yield fake


ROOT = authority("root")
BELOW = authority("below", ROOT)


def serial(der: bytes) -> int:
    return x509.load_der_x509_certificate(der).serial_number


def seen(*svids: workload_pb2.X509SVID, roots: set[int]) -> Seen:
    """What a client has to see of SVIDs without intermediates."""
    return Seen({one.spiffe_id: [serial(one.x509_svid)] for one in svids}, {DOMAIN: roots})


@CLIENTS
def test_an_svid_and_its_root_are_seen(client, spire):
    one = svid(ORDERS, [ROOT])
    spire.give(one)
    with client(spire.address) as reader:
        assert reader.until(Seen) == seen(one, roots={ROOT.certificate.serial_number})


@CLIENTS
def test_several_svids_come_in_one_answer(client, spire):
    orders, payments = svid(ORDERS, [ROOT]), svid(PAYMENTS, [ROOT])
    spire.give(orders, payments)
    with client(spire.address) as reader:
        assert reader.until(Seen) == seen(orders, payments, roots={ROOT.certificate.serial_number})


@CLIENTS
def test_the_chain_has_its_intermediates(client, spire):
    spire.give(svid(ORDERS, [BELOW, ROOT]))
    with client(spire.address) as reader:
        chains = reader.until(Seen).chains
    assert chains[ORDERS][1:] == [BELOW.certificate.serial_number]


@CLIENTS
def test_a_new_answer_replaces_the_old_one(client, spire):
    first, second = svid(ORDERS, [ROOT]), svid(PAYMENTS, [ROOT])
    spire.give(first)
    with client(spire.address) as reader:
        assert ORDERS in reader.until(Seen).chains
        spire.give(second)
        assert reader.until(Seen) == seen(second, roots={ROOT.certificate.serial_number})


@CLIENTS
def test_a_new_root_comes_beside_the_old_one(client, spire):
    new = authority("new")
    spire.give(svid(ORDERS, [ROOT], bundle=ROOT.der + new.der))
    with client(spire.address) as reader:
        assert reader.until(Seen).roots == {
            DOMAIN: {ROOT.certificate.serial_number, new.certificate.serial_number},
        }


@CLIENTS
def test_roots_of_other_domains_are_apart(client, spire):
    spire.give(svid(ORDERS, [ROOT]), federated={"spiffe://other.test": authority("other").der})
    with client(spire.address) as reader:
        assert set(reader.until(Seen).roots) == {DOMAIN}


@CLIENTS
def test_without_an_identity_the_client_says_so_and_gets_it_later(client, spire):
    with client(spire.address) as reader:
        # Theirs says nothing while it tries again.
        if client is ours:
            assert "no identity issued" in reader.until(str)
        spire.give(svid(ORDERS, [ROOT]))
        assert set(reader.until(Seen).chains) == {ORDERS}


@CLIENTS
def test_an_ended_stream_is_opened_again(client, spire):
    spire.give(svid(ORDERS, [ROOT]))
    with client(spire.address) as reader:
        reader.until(Seen)
        spire.end_streams()
        spire.give(svid(PAYMENTS, [ROOT]))
        while PAYMENTS not in reader.until(Seen).chains:
            pass


@CLIENTS
def test_what_cannot_mend_itself_ends_the_client(client, spire):
    spire.fail(grpc.StatusCode.INVALID_ARGUMENT, "told to")
    with client(spire.address) as reader:
        assert "INVALID_ARGUMENT" in reader.until(str)
    assert spire.calls == 1


def test_a_call_without_the_security_header_is_refused(spire):
    spire.give(svid(ORDERS, [ROOT]))
    with grpc.insecure_channel(spire.address) as channel, pytest.raises(grpc.RpcError) as refused:
        next(channel.unary_stream(messages.FETCH_X509_SVID)(b"", timeout=WITHIN))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_our_messages_are_those_of_the_standard():
    def described(message: Any) -> DescriptorProto:
        proto = DescriptorProto()
        message.DESCRIPTOR.CopyToProto(proto)
        return proto

    assert described(messages.X509SVIDRequest) == described(workload_pb2.X509SVIDRequest)
    assert described(messages.X509SVIDResponse) == described(workload_pb2.X509SVIDResponse)
    assert described(messages.X509SVID) == described(workload_pb2.X509SVID)


def test_our_path_is_that_of_the_standard():
    service = workload_pb2.DESCRIPTOR.services_by_name["SpiffeWorkloadAPI"]
    assert f"/{service.full_name}/{service.methods_by_name['FetchX509SVID'].name}" == messages.FETCH_X509_SVID


def test_our_messages_and_theirs_read_each_other():
    given = workload_pb2.X509SVIDResponse(
        svids=[svid(ORDERS, [ROOT], hint="internal")], crl=[b"c"], federated_bundles={"spiffe://o": b"b"}
    )
    data = given.SerializeToString(deterministic=True)
    assert messages.X509SVIDResponse.FromString(data).SerializeToString(deterministic=True) == data
