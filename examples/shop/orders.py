"""orders: places, shows and refunds orders. It pays through payments (gRPC) and keeps them in the ledger (TCP)."""

import json
import os
import re
import socket
import uuid
from collections import Counter
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Struct
from listening import Handler, port_or, serve_http, stop_event

PAYMENTS = os.environ.get("PAYMENTS_ADDR", "127.0.0.1:9104")
LEDGER = os.environ.get("LEDGER_ADDR", "127.0.0.1:9105")
ORDER = re.compile(r"/orders/([A-Za-z0-9-]{1,40})")
REFUND = re.compile(r"/orders/([A-Za-z0-9-]{1,40})/refund")

channel = grpc.insecure_channel(PAYMENTS, options=[("grpc.max_reconnect_backoff_ms", 2000)])
ordered: Counter[str] = Counter()


class Unavailable(Exception):
    """A service that orders needs did not do its part."""


def pay(method: str, amount: float) -> bool:
    call = channel.unary_unary(f"/shop.payments.v1.Payments/{method}", Struct.SerializeToString, Struct.FromString)
    request = Struct()
    request.update({"amount": amount})
    try:
        return bool(call(request, timeout=5)["approved"])
    except grpc.RpcError as error:
        raise Unavailable(f"payments: {error.code().name}") from error


def ledger(command: str) -> str:
    """One command, in a session of its own."""
    host, _, port = LEDGER.rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), timeout=5) as session,
            session.makefile("rw", newline="") as lines,
        ):
            if not lines.readline().startswith("LEDGER 1"):
                raise Unavailable("ledger: no greeting")
            lines.write(f"{command}\r\nQUIT\r\n")
            lines.flush()
            said = lines.readline().strip()
    except OSError as error:
        raise Unavailable(f"ledger: {error}") from error
    if not said or said.startswith("ERR"):
        raise Unavailable(f"ledger: {said or 'closed'}")
    return said


def stored(order: str) -> Any:
    said = ledger(f"GET {order}")
    return json.loads(said.removeprefix("OK ")) if said.startswith("OK ") else None


class Orders(Handler):
    def do_GET(self) -> None:
        self.answer(
            {"/healthz": self.health, "/orders/popular": self.popular, "/admin": self.admin}.get(self.route, self.show)
        )

    def do_POST(self) -> None:
        self.answer(self.refund if self.route.endswith("/refund") else self.place)

    def answer(self, action: Any) -> None:
        try:
            status, value = action()
        except Unavailable as error:
            status, value = 502, {"error": str(error)}
        self.reply(status, value)

    def health(self) -> tuple[int, Any]:
        return 200, {"status": "ok"}

    def popular(self) -> tuple[int, Any]:
        return 200, [sku for sku, _ in ordered.most_common(3)]

    def admin(self) -> tuple[int, Any]:
        return 200, {"ordered": ordered.total(), "payments": PAYMENTS, "ledger": LEDGER}

    def show(self) -> tuple[int, Any]:
        match = ORDER.fullmatch(self.route)
        order = stored(match[1]) if match else None
        return (200, order) if order else (404, {"error": "no such order"})

    def place(self) -> tuple[int, Any]:
        if self.route != "/orders":
            return 404, {"error": "no such page"}
        wanted = self.body()
        if not isinstance(wanted, dict) or not re.fullmatch("sku-[0-9]{1,6}", str(wanted.get("sku"))):
            return 400, {"error": 'send {"sku": "sku-1"}'}
        if not pay("Authorize", 25):
            return 402, {"error": "the payment was declined"}
        order, sku = uuid.uuid4().hex[:12], wanted["sku"]
        ledger(f"ADD {order} {json.dumps({'sku': sku, 'quantity': 1, 'state': 'paid'})}")
        ordered[sku] += 1
        return 201, {"id": order}

    def refund(self) -> tuple[int, Any]:
        match = REFUND.fullmatch(self.route)
        order = stored(match[1]) if match else None
        if not order:
            return 404, {"error": "no such order"}
        if not pay("Refund", 25):
            return 402, {"error": "the refund was declined"}
        ledger(f"ADD {match[1]} {json.dumps(order | {'state': 'refunded'})}")
        return 200, {"id": match[1], "state": "refunded"}


if __name__ == "__main__":
    serve_http("orders", Orders, port_or(9102), stop_event())
    channel.close()
