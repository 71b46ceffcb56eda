"""A source with nothing behind it: everything that it gives is recorded."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import TypeAdapter

from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.errors import EdgeAgentError, InputError
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.samples import Sample, Series
from edge_agent.sources import Context, open_source
from edge_agent.sources.queue import SampleQueue
from tests.broker import wait_until
from tests.settlements import ended

CAPACITY = 10_000


class Listener:
    """Runs a source until the end of the `with` block.

    Attributes:
        samples: what it has given.
        troubles: what it has said of itself.
        ended: whether it has said that nothing more comes.
    """

    def __init__(self, source: Mapping[str, Any], folder: Path) -> None:
        self.samples: list[Sample] = []
        self.troubles: list[str] = []
        self.ended = False
        broker = settings.Mqtt()
        context = Context(folder, "edge/test/shed", Endpoint.from_settings(broker, folder), broker)
        options: settings.Source = TypeAdapter[Any](settings.Source).validate_python(source)
        self.source = open_source(options, context)
        self._queue = SampleQueue(CAPACITY, Counters(), keep_newest=False)
        self._thread = threading.Thread(target=self._listen, name="listener")

    def __enter__(self) -> Self:
        self._thread.start()
        self.source.start(self._queue, self._trouble)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> float:
        """Stops the source and lets it go; returns the seconds that this took."""
        began = time.monotonic()
        self.source.stop()
        self.source.close(time.monotonic() + 10)
        seconds = time.monotonic() - began
        self._thread.join()
        return seconds

    def wait_for(self, condition: Callable[["Listener"], Any], what: str, timeout: float = 15.0) -> None:
        wait_until(lambda: condition(self), timeout, f"{what}; {self.samples[-3:]}, {self.troubles}")

    def wait_for_readings(self, count: int) -> list[list[float]]:
        self.wait_for(lambda listener: len(listener.readings) >= count, f"{count} readings")
        return self.readings

    def wait_until_ended(self) -> None:
        self.wait_for(lambda listener: listener.ended, "the source has ended")

    @property
    def series(self) -> list[Series]:
        """The readings, as they came."""
        return [sample.data for sample in list(self.samples) if isinstance(sample.data, Series)]

    @property
    def readings(self) -> list[list[float]]:
        """All readings, one by one."""
        return [row for series in self.series for row in series.values.tolist()]

    @property
    def values(self) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """All readings as one array."""
        return np.concatenate([series.values for series in self.series])

    @property
    def pictures(self) -> list[Any]:
        return [sample.data for sample in self.samples if not isinstance(sample.data, Series | InputError)]

    @property
    def errors(self) -> list[str]:
        """What could not be used."""
        return [str(sample.data) for sample in list(self.samples) if isinstance(sample.data, InputError)]

    def _listen(self) -> None:
        while samples := self._queue.get():
            self.samples += ended(samples)
        self.ended = True

    def _trouble(self, error: EdgeAgentError) -> None:
        self.troubles.append(str(error))
