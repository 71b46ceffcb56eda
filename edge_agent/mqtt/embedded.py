"""The broker of `mqtt: {url: embedded}`: amqtt in this process, to try the agent without a broker."""

import asyncio
import concurrent.futures
import contextlib
import logging
import socket
import threading
from typing import Any

from edge_agent.errors import EdgeAgentError, install_packages

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
SHUTDOWN_TIMEOUT_S = 2.0
# With asyncio's default of 64 KiB, images of several megabytes are read slowly.
READ_BUFFER_BYTES = 1 << 20

# "external": amqtt serves connections that are accepted here, so that the kernel can choose the port.
BROKER_CONFIG = {
    "listeners": {"default": {"type": "external"}},
    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
}


def not_installed() -> str:
    """The message where amqtt is missing, as it is on 32-bit systems."""
    install = install_packages("amqtt")
    return f"`embedded` needs a package that is not installed: {install}, or give the URL of a broker"


class EmbeddedBroker:
    """An MQTT broker on a free port of 127.0.0.1, in a thread of its own.

    It supports MQTT 3.1.1 only, accepts every client on this machine, and keeps everything in memory: sessions end
    with their connection. It has no flow control and no size limit: messages are kept until they are delivered. A
    message without a PUBACK after 5 s is not redelivered.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self) -> str:
        """Starts it and returns its URL, `mqtt://127.0.0.1:PORT`, once it is listening.

        Raises:
            EdgeAgentError: amqtt is not installed, or it did not start.
        """
        try:
            from amqtt.errors import BrokerError, PluginError
        except ImportError as error:
            raise EdgeAgentError(f"mqtt.url: {not_installed()}") from error
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
        """Ends its connections and its thread, within 5 s; does nothing when it is not running."""
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
            finally:  # amqtt leaves a connection open whose first packet is invalid
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
    """Leaves only what concerns a user: clients that are refused or replaced, a line each."""
    logging.getLogger("transitions").setLevel(logging.WARNING)
    # It logs every packet, and warns of acknowledgements that arrive while a connection ends.
    logging.getLogger("amqtt").setLevel(logging.ERROR)
    logging.getLogger("amqtt.broker").setLevel(logging.WARNING)
    logging.getLogger("amqtt.broker").addFilter(_one_line_warning)


def _one_line_warning(record: logging.LogRecord) -> bool:
    if record.exc_info:  # a delivery that was interrupted by the end of its connection
        return False
    record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True


def _log_failure(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logging.getLogger("amqtt.broker").warning("%s: %r", context.get("message"), context.get("exception"))
