"""ledger: an append-only store behind a line protocol in which the server speaks first.

LEDGER 1 ready
GET 42          ->  OK {"sku": ...}  or  NONE
ADD 42 {...}    ->  OK
QUIT            ->  BYE
"""

import asyncio
import json
from collections import OrderedDict

from listening import port_or
from streams import serve_streams

KEPT = 10_000
LATEST: OrderedDict[str, str] = OrderedDict()


def answer(line: str) -> str:
    verb, _, rest = line.partition(" ")
    key, _, value = rest.partition(" ")
    if verb == "GET" and key and not value:
        return f"OK {LATEST[key]}" if key in LATEST else "NONE"
    if verb == "ADD" and key and value:
        add(key, value)
        return "OK"
    return "BYE" if verb == "QUIT" else "ERR GET key, ADD key value, QUIT"


def add(key: str, value: str) -> None:
    LATEST[key] = value
    LATEST.move_to_end(key)
    if len(LATEST) > KEPT:
        LATEST.popitem(last=False)


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"LEDGER 1 ready\r\n")
    try:
        while line := await reader.readline():
            said = answer(line.decode("utf-8", "replace").strip("\r\n"))
            writer.write(f"{said}\r\n".encode())
            await writer.drain()
            if said == "BYE":
                return
    except ValueError:
        writer.write(b"ERR the line is too long\r\n")


if __name__ == "__main__":
    for number in range(1, 100):
        add(str(number), json.dumps({"sku": f"sku-{number % 12 + 1}", "quantity": 1, "state": "paid"}))
    asyncio.run(serve_streams("ledger", talk, port_or(9105)))
