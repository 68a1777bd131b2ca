"""The server's half of RFC 6455, as far as notify needs it: unfragmented texts, ping, pong and close."""

import asyncio
import base64
import binascii
import hashlib
import struct
from collections.abc import AsyncIterator
from email.message import Message

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MAX_BYTES = 65536


def check(headers: Message) -> tuple[str, str]:
    """The status with which a handshake is refused ("" when it is not), and its key (RFC 6455, 4.2.1)."""
    key = headers.get("Sec-WebSocket-Key", "").strip()
    tokens = {token.strip().lower() for token in ",".join(headers.get_all("Connection", [])).split(",")}
    if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in tokens:
        return "426 Upgrade Required", key
    if headers.get("Sec-WebSocket-Version", "").strip() != "13":
        return "426 Upgrade Required", key
    try:
        return ("" if len(base64.b64decode(key, validate=True)) == 16 else "400 Bad Request"), key
    except binascii.Error:
        return "400 Bad Request", key


def accept(key: str) -> str:
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    return base64.b64encode(digest).decode()


class Violation(Exception):
    """The peer broke the protocol, or sent what is not taken here; carries the close code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Session:
    """An open WebSocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.closed = False

    async def texts(self) -> AsyncIterator[str]:
        """The texts that arrive, until either side closes. Pings are answered on the way."""
        try:
            while True:
                opcode, payload = await self._frame()
                if opcode == TEXT:
                    yield payload.decode()
                elif opcode == PING:
                    self._write(PONG, payload)
                elif opcode == CLOSE:
                    self.close(_code(payload))
                    return
        except Violation as violation:
            self.close(violation.code)
        except UnicodeDecodeError:
            self.close(1007)

    async def send(self, text: str) -> None:
        self._write(TEXT, text.encode())
        await self.writer.drain()

    def close(self, code: int | None) -> None:
        self._write(CLOSE, b"" if code is None else struct.pack("!H", code))
        self.closed = True

    def _write(self, opcode: int, payload: bytes) -> None:
        if self.closed:
            return
        size = len(payload)
        length = (
            struct.pack("!B", size)
            if size < 126
            else struct.pack("!BH" if size < 65536 else "!BQ", 126 + (size > 65535), size)
        )
        self.writer.write(bytes([0x80 | opcode]) + length + payload)

    async def _frame(self) -> tuple[int, bytes]:
        """One frame from a client (RFC 6455, 5.2): masked, unfragmented, without extensions."""
        first, second = await self.reader.readexactly(2)
        final, reserved, opcode, size = first & 0x80, first & 0x70, first & 0x0F, second & 0x7F
        if reserved or not second & 0x80 or opcode not in (TEXT, BINARY, CLOSE, PING, PONG):
            raise Violation(1002)
        if opcode >= CLOSE and (not final or size > 125):
            raise Violation(1002)
        if opcode == BINARY or not final:
            raise Violation(1003)
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        if size > MAX_BYTES:
            raise Violation(1009)
        mask, payload = await self.reader.readexactly(4), await self.reader.readexactly(size)
        key = (mask * (size // 4 + 1))[:size]
        return opcode, (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def _code(payload: bytes) -> int | None:
    """The code to close with in answer to a close: the peer's own, where it is one (RFC 6455, 7.4)."""
    if not payload:
        return None
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 0
    known = code in (1000, 1001, 1002, 1003, *range(1007, 1012)) or 3000 <= code < 5000
    return code if known else 1002
