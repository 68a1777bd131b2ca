"""How the shop's asyncio services serve: any number of conversations, until SIGTERM."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

from listening import HOST, fail, say

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def serve_streams(name: str, talk: Talk, port: int) -> None:
    """Serve until SIGTERM; then the open conversations are cancelled, so that they can say goodbye."""
    open_ones: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        open_ones.add(task)
        try:
            await talk(reader, writer)
            await part(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the peer went away, or the service ends
        finally:
            open_ones.discard(task)
            writer.close()

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        server = await asyncio.start_server(converse, HOST, port, limit=16384)
    except OSError as error:
        fail(name, port, error)
    say(f"{name}: listening on {HOST}:{port}")
    await stop.wait()
    server.close()
    for task in list(open_ones):
        task.cancel()
    await asyncio.gather(*open_ones, return_exceptions=True)


async def part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say that nothing more comes, then hear the peer out: closing with unread bytes would take back what was said."""
    writer.write_eof()
    async with asyncio.timeout(1):
        while await reader.read(65536):
            pass
