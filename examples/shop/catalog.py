"""catalog: what is for sale. The same service as catalog.mjs, for machines without Node."""

import json
import os
import threading
import urllib.request
from typing import Any

from listening import Handler, port_or, serve_http, stop_event

ORDERS = os.environ.get("ORDERS_URL", "http://127.0.0.1:9102")
GOODS = {f"sku-{n}": {"sku": f"sku-{n}", "name": f"Thing {n}", "price": 25} for n in range(1, 13)}
popular: list[str] = []


class Catalog(Handler):
    def do_GET(self) -> None:
        self.reply(*page(self.route))

    do_HEAD = do_GET


def page(path: str) -> tuple[int, Any]:
    if path == "/healthz":
        return 200, {"status": "ok"}
    if path in ("/catalog", "/catalog/"):
        return 200, {"goods": list(GOODS), "popular": popular}
    sku = path.removeprefix("/catalog/")
    return (200, GOODS[sku]) if path.startswith("/catalog/") and sku in GOODS else (404, {"error": "no such page"})


def follow_orders(stop: threading.Event) -> None:
    while not stop.wait(3):
        try:
            with urllib.request.urlopen(f"{ORDERS}/orders/popular", timeout=5) as answer:
                popular[:] = json.load(answer)
        except (OSError, ValueError):
            popular.clear()


if __name__ == "__main__":
    stop = stop_event()
    threading.Thread(target=follow_orders, args=(stop,), daemon=True).start()
    serve_http("catalog", Catalog, port_or(9103), stop)
