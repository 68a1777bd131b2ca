"""notify: news of orders. GET /events streams server-sent events without end, GET /ws is a WebSocket (RFC 6455)."""

import asyncio
import os
from contextlib import suppress
from email.message import Message
from email.parser import BytesHeaderParser

import websocket
from listening import port_or
from streams import serve_streams

TICK = float(os.environ.get("TICK", "1"))  # seconds between two pieces of news


def response(status: str, body: str = "", *fields: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: text/plain",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *fields,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    fields = "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked"
    writer.write(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode())
    gone = asyncio.create_task(reader.read(1))  # the caller of a stream has nothing more to say: it can only leave
    number = 0
    try:
        while not gone.done():
            number += 1
            event = f"id: {number}\nevent: tick\ndata: {number}\n\n"
            writer.write(f"{len(event):x}\r\n{event}\r\n".encode())
            await writer.drain()
            await asyncio.wait([gone], timeout=TICK)
    except asyncio.CancelledError:
        writer.write(b"0\r\n\r\n")
        raise
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)


async def ws(headers: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Every text comes back; after the text `ticks`, news comes on its own."""
    refusal, key = websocket.check(headers)
    if refusal:
        writer.write(response(refusal, "", "Sec-WebSocket-Version: 13"))
        return
    accept = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {websocket.accept(key)}"
    writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{accept}\r\n\r\n".encode())
    session = websocket.Session(reader, writer)
    news: asyncio.Task[None] | None = None
    try:
        async for text in session.texts():
            await session.send(text)
            if text == "ticks" and news is None:
                news = asyncio.create_task(tick(session))
    except asyncio.CancelledError:
        session.close(1001)
        raise
    finally:
        if news:
            news.cancel()


async def tick(session: websocket.Session) -> None:
    number = 0
    with suppress(ConnectionError):
        while True:
            await asyncio.sleep(TICK)
            number += 1
            await session.send(f"tick {number}")


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request a connection; every answer says so, or is a stream."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        writer.write(response("431 Request Header Fields Too Large"))
        return
    line, _, rest = head.partition(b"\r\n")
    method, path, version = [*line.decode("latin-1").split(" "), "", ""][:3]
    match method, path.partition("?")[0], version:
        case "GET", "/healthz", _:
            writer.write(response("200 OK", "ok\n"))
        case "GET", "/events", "HTTP/1.1":
            await events(reader, writer)
        case "GET", "/ws", "HTTP/1.1":
            await ws(BytesHeaderParser().parsebytes(rest), reader, writer)
        case _:
            writer.write(response("404 Not Found", "no such page\n"))


if __name__ == "__main__":
    asyncio.run(serve_streams("notify", talk, port_or(9106)))
