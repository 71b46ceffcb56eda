"""A bad network between a client and a broker: a TCP proxy that delays, cuts, and half-opens connections."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Literal, Self

_CHUNK = 65536

# What becomes of connections: passed on; accepted, and then nothing more; closed at once.
Mode = Literal["forward", "silent", "refuse"]


class Proxy:
    """Listens on a loopback port and passes on to another. A context manager.

    Args:
        target: the port that it passes on to.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.mode: Mode = "forward"
        self.delay = 0.0
        self.connections = 0
        self._cut_after: int | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._thawed = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._started = threading.Event()
        self._stopping = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Ends all connections at once."""
        self._call(self._abort)

    def cut_after(self, count: int) -> None:
        """Ends all connections when so many more bytes have come from the client, in the middle of whatever that is."""
        self._call(lambda: setattr(self, "_cut_after", count))

    def freeze(self) -> None:
        """Keeps the connections open and passes nothing on: neither side learns that the other is gone."""
        self._call(self._thawed.clear)

    def thaw(self) -> None:
        """Passes on again, what has come meanwhile first."""
        self._call(self._thawed.set)

    def _call(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(10)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen())

    async def _listen(self) -> None:
        self._thawed.set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopping.wait()
        server.close()
        self._thawed.set()
        self._abort()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            if self.mode == "silent":
                await reader.read()
            elif self.mode == "forward":
                await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.add(broker_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, broker_writer, counted=True))
                group.create_task(self._pump(broker_reader, writer, counted=False))
        except* OSError:
            pass
        finally:
            self._writers.discard(broker_writer)
            broker_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        while data := await reader.read(_CHUNK):
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._thawed.wait()
            if counted and self._cut_after is not None:
                data = data[: self._cut_after]
                self._cut_after -= len(data)
            with contextlib.suppress(OSError):
                writer.write(data)
                await writer.drain()
            if counted and self._cut_after == 0:
                self._cut_after = None
                self._abort()
        writer.close()
