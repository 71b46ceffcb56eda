"""The broker behind `mqtt: {url: embedded}`: amqtt in this process, for trials without a broker at hand."""

import asyncio
import concurrent.futures
import contextlib
import logging
import socket
import threading
from typing import Any

from edge_agent.errors import EdgeAgentError

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
SHUTDOWN_TIMEOUT_S = 2.0
# With asyncio's default of 64 KiB, an image of some megabytes is read by fits and starts.
READ_BUFFER_BYTES = 1 << 20

# "external": amqtt serves connections that are accepted here, so that the kernel can choose the port.
BROKER_CONFIG = {
    "listeners": {"default": {"type": "external"}},
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


class EmbeddedBroker:
    """An MQTT broker on a free port of 127.0.0.1, in a thread of its own.

    It speaks MQTT 3.1.1 only, lets in everybody on this machine, and keeps everything in memory: sessions end
    with their connection. It takes messages as fast as they come, of any size, and holds them until they are
    delivered; one that a subscriber leaves unacknowledged for 5 s is not delivered again.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self) -> str:
        """Start it and return its URL, `mqtt://127.0.0.1:PORT`, once it listens there.

        Raises:
            EdgeAgentError: amqtt is not installed, or it did not start.
        """
        try:
            from amqtt.errors import BrokerError, PluginError
        except ImportError as error:
            raise EdgeAgentError(
                "mqtt.url: `embedded` needs a package that is not installed: pip install amqtt,"
                " or give the URL of a broker"
            ) from error
        _quieten_logging()
        started: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="embedded-broker", daemon=True)
        self._thread.start()
        try:
            port = started.result(START_TIMEOUT_S)
        except (OSError, BrokerError, PluginError) as error:
            self.stop()
            raise EdgeAgentError(
                f"mqtt.url: the embedded broker did not start ({type(error).__name__}: {error}):"
                " give the URL of a broker instead"
            ) from error
        return f"mqtt://127.0.0.1:{port}"

    def stop(self) -> None:
        """End its connections and its thread, within 5 s; does nothing when it does not run."""
        if self._loop and self._stopping:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread:
            self._thread.join(STOP_TIMEOUT_S)
        self._thread = self._loop = self._stopping = None

    def _run(self, started: concurrent.futures.Future[int]) -> None:
        try:
            asyncio.run(self._serve(started))
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)  # `start` waits for it

    async def _serve(self, started: concurrent.futures.Future[int]) -> None:
        from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
        from amqtt.broker import Broker

        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_log_failure)
        self._stopping = asyncio.Event()
        broker = Broker(dict(BROKER_CONFIG))
        await broker.start()
        connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await broker.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), "default")
            finally:  # amqtt leaves a connection open whose first packet it dislikes
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = asyncio.create_task(serve(reader, writer))
            connections[connection] = writer
            connection.add_done_callback(connections.pop)

        listening = socket.create_server(("127.0.0.1", 0))
        server = await asyncio.start_server(accept, sock=listening, limit=READ_BUFFER_BYTES)
        started.set_result(listening.getsockname()[1])
        await self._stopping.wait()

        server.close()
        with contextlib.suppress(TimeoutError):  # a client that does not read can hold it up
            await asyncio.wait_for(broker.shutdown(), SHUTDOWN_TIMEOUT_S)
        for writer in connections.values():
            writer.transport.abort()
        if connections:
            await asyncio.wait(connections, timeout=SHUTDOWN_TIMEOUT_S)


def _quieten_logging() -> None:
    """Leave only what tells a user something: clients that are refused or replaced, a line each."""
    logging.getLogger("transitions").setLevel(logging.WARNING)
    # It logs every packet, and warns of acknowledgements that cross with the end of a connection.
    logging.getLogger("amqtt").setLevel(logging.ERROR)
    logging.getLogger("amqtt.broker").setLevel(logging.WARNING)
    logging.getLogger("amqtt.broker").addFilter(_one_line_warning)


def _one_line_warning(record: logging.LogRecord) -> bool:
    if record.exc_info:  # a delivery that the end of its connection cut short
        return False
    record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True


def _log_failure(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logging.getLogger("amqtt.broker").warning("%s: %r", context.get("message"), context.get("exception"))
