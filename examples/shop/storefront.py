"""storefront: what customers see. `--traffic RATE` also plays the customers, with RATE calls a second."""

import argparse
import json
import os
import random
import threading
import urllib.error
import urllib.request
from collections import Counter, deque
from typing import Any

from listening import Handler, port_or, serve_http, stop_event

ORDERS = os.environ.get("ORDERS_URL", "http://127.0.0.1:9102")
CATALOG = os.environ.get("CATALOG_URL", "http://127.0.0.1:9103")
NOTIFY = os.environ.get("NOTIFY_URL", "http://127.0.0.1:9106")

outcomes: Counter[str] = Counter()
placed = deque(["1", "2", "3"], maxlen=50)


class Storefront(Handler):
    def do_GET(self) -> None:
        if self.route == "/healthz":
            self.reply(200, {"status": "ok"})
        elif self.route == "/":
            self.reply(200, {"shop": "open", "calls": dict(sorted(outcomes.items()))})
        else:
            self.reply(404, {"error": "no such page"})


def call(what: str, url: str, value: Any = None) -> Any:
    """Make one call and count how it ended; the answer's JSON, or None."""
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} if body else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            ended, result = answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        error.close()
        ended, result = error.code, None
    except (OSError, ValueError):
        ended, result = "no answer", None
    outcomes[f"{what}: {ended}"] += 1
    return result


def customer() -> None:
    """One customer: most browse, some look after an order, few buy."""
    sku = f"sku-{random.randint(1, 12)}"
    match random.choices(["browse", "look", "buy"], [5, 4, 1])[0]:
        case "browse":
            call("GET /catalog", f"{CATALOG}/catalog/{sku}")
        case "look":
            call("GET /orders", f"{ORDERS}/orders/{random.choice(placed)}")
        case "buy":
            order = call("POST /orders", f"{ORDERS}/orders", {"sku": sku})
            if order:
                placed.append(order["id"])


def customers(rate: float, stop: threading.Event) -> None:
    while not stop.wait(min(random.expovariate(rate), 3 / rate)):
        customer()


def news(stop: threading.Event) -> None:
    """Keep one stream of events open, and open it again when it ends."""
    while not stop.is_set():
        try:
            with urllib.request.urlopen(f"{NOTIFY}/events", timeout=30) as stream:
                outcomes["GET /events: opened"] += 1
                for line in stream:
                    outcomes["GET /events: events"] += line.startswith(b"data:")
        except urllib.error.HTTPError as error:
            error.close()
            outcomes[f"GET /events: {error.code}"] += 1
        except (OSError, ValueError):
            outcomes["GET /events: no answer"] += 1
        stop.wait(random.uniform(1, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--traffic", type=float, default=0, metavar="RATE", help="customers' calls a second, at most 50"
    )
    rate = min(parser.parse_args().traffic, 50)
    stop = stop_event()
    if rate > 0:
        threading.Thread(target=customers, args=(rate, stop), daemon=True).start()
        threading.Thread(target=news, args=(stop,), daemon=True).start()
    serve_http("storefront", Storefront, port_or(9101), stop)


if __name__ == "__main__":
    main()
