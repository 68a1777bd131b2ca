"""reports: a program that tries what it must not, as one does that somebody has broken into.

Prints one line an attempt. With `--once` it makes each attempt once; the exit status is then 1 if any got through.
"""

import argparse
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Callable

import grpc
from google.protobuf.struct_pb2 import Struct
from listening import stop_event

ORDERS = os.environ.get("ORDERS_URL", "http://127.0.0.1:9102")
CATALOG = os.environ.get("CATALOG_URL", "http://127.0.0.1:9103")
PAYMENTS = os.environ.get("PAYMENTS_ADDR", "127.0.0.1:9104")
LEDGER = os.environ.get("LEDGER_ADDR", "127.0.0.1:9105")
PAUSE = float(os.environ.get("PAUSE", "3"))  # seconds between two attempts

Outcome = tuple[bool, str]  # whether it reached its target, and what came back


def http(method: str, url: str) -> Outcome:
    request = urllib.request.Request(url, b"{}" if method == "POST" else None, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return True, f"{answer.status} {answer.reason}"
    except urllib.error.HTTPError as error:
        error.close()
        return error.code not in (400, 403, 502, 503, 504), f"{error.code} {error.reason}"
    except OSError as error:
        return False, str(error)


def authorize() -> Outcome:
    request = Struct()
    request.update({"amount": 999})
    with grpc.insecure_channel(PAYMENTS) as channel:
        call = channel.unary_unary("/shop.payments.v1.Payments/Authorize", Struct.SerializeToString, Struct.FromString)
        try:
            return True, "approved" if call(request, timeout=5)["approved"] else "declined"
        except grpc.RpcError as error:
            code = error.code()
            return code not in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE), code.name


def read_ledger() -> Outcome:
    host, _, port = LEDGER.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5) as session:
            session.sendall(b"GET 42\r\nQUIT\r\n")
            said = session.makefile("rb").read(200).decode("utf-8", "replace").splitlines()
    except OSError as error:
        return False, str(error)
    return (True, said[1]) if len(said) > 1 else (False, "closed without a word")


ATTEMPTS: dict[str, Callable[[], Outcome]] = {
    "ledger: read order 42": read_ledger,
    "payments: Authorize": authorize,
    "orders: POST /orders/42/refund": lambda: http("POST", f"{ORDERS}/orders/42/refund"),
    "orders: GET /admin": lambda: http("GET", f"{ORDERS}/admin"),
    "orders: GET //admin": lambda: http("GET", f"{ORDERS}//admin"),
    "orders: GET /orders/..%2Fadmin": lambda: http("GET", f"{ORDERS}/orders/..%2Fadmin"),
    "catalog: GET /catalog/../orders/1": lambda: http("GET", f"{CATALOG}/catalog/../orders/1"),
}


def attempt(name: str) -> bool:
    reached, outcome = ATTEMPTS[name]()
    print(f"{'GOT THROUGH' if reached else 'refused':11}  {name:34}  {outcome}", flush=True)
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="each attempt once, then exit")
    if parser.parse_args().once:
        reached = [attempt(name) for name in ATTEMPTS]
        return int(any(reached))
    stop = stop_event()
    while True:
        for name in ATTEMPTS:
            attempt(name)
            if stop.wait(PAUSE):
                return 0


if __name__ == "__main__":
    raise SystemExit(main())
