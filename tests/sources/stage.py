"""A source in a real pipeline, with the bundled model, and everything that comes out of it recorded."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from edge_agent import settings
from edge_agent.counters import Counters, imbalance
from edge_agent.errors import EdgeAgentError
from edge_agent.models import model as models
from edge_agent.models.model import Model
from edge_agent.models.resolve import resolve_model
from edge_agent.models.shipped import shipped
from edge_agent.models.stages import WorkItem
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.pipeline.pipeline import Pipeline
from edge_agent.samples import Prediction, Sample, Timing
from edge_agent.settings.own_topics import OwnTopics
from edge_agent.sources import Context, open_source
from tests.broker import wait_until
from tests.sink import NullSink

DIGITS = shipped("digits")
_OBSERVE_EVERY_S = 0.002


def digits_model(engines: int = 1) -> Model:
    options = settings.Model(path=DIGITS, threads=1, engines=engines)
    return models.load_qualified("digits", replace(resolve_model(options, Path.cwd()), cores=engines))


class Stage(NullSink):
    """Runs a source until the end of the `with` block.

    Attributes:
        results: samples that have been through the model, in the order in which they left it.
        models: that each of them has been through.
        outcomes: for each of them what the pipeline published: predictions, facts of the input, and times.
        given_up: samples that could not be used, with the reason.
        troubles: what the source has said of itself.
        counters: of the pipeline.
        imbalances: what did not add up in them at one of the moments at which they were looked at.
        looks: how often they were.
        gate: while it is cleared, no result gets out: a consumer that is too slow.
    """

    def __init__(
        self,
        source: Mapping[str, Any],
        model: Model,
        folder: Path,
        mqtt: Mapping[str, Any] | None = None,
        own_topics: OwnTopics | None = None,
        **options: Any,
    ) -> None:
        self.results: list[Sample] = []
        self.models: list[Model] = []
        self.outcomes: list[tuple[list[Prediction], Mapping[str, Any], Timing]] = []
        self.given_up: list[tuple[Sample, EdgeAgentError]] = []
        self.troubles: list[str] = []
        self.counters = Counters()
        self.imbalances: list[str] = []
        self.looks = 0
        self.gate = threading.Event()
        self.gate.set()
        pipeline = settings.Pipeline.model_validate({"source": source, "model": "digits"} | options)
        broker = settings.Mqtt.model_validate(mqtt or {})
        endpoint = Endpoint.from_settings(broker, folder)
        topics = own_topics or OwnTopics()
        context = Context(
            *(folder, "edge/test/stage", endpoint, broker),
            own_topics=topics,
            counters=self.counters,
            model_file=model.file.path,
            gate=pipeline.gate,
            regions=pipeline.regions,
        )
        self.source = open_source(pipeline.source, context)
        self.pipeline = Pipeline("stage", pipeline, self.source, model, self.counters, sink=self)
        self._over = threading.Event()
        self._observer = threading.Thread(target=self._observe, name="observer")

    def counts(self) -> dict[str, Any]:
        return self.counters.as_dict()

    def wait_for(self, condition: Callable[["Stage"], Any], what: str, timeout: float = 10.0) -> None:
        wait_until(lambda: condition(self), timeout, f"{what}; {self.counts()}, {self.troubles}")

    def wait_for_results(self, count: int, timeout: float = 10.0) -> Sequence[Sample]:
        self.wait_for(lambda stage: len(stage.results) >= count, f"{count} results", timeout)
        return self.results

    def wait_until_ended(self, timeout: float = 20.0) -> None:
        self.wait_for(lambda stage: stage.pipeline.ended, "the source has ended and all is worked on", timeout)

    def stop(self) -> float:
        """Stops the source; returns the seconds that this took."""
        began = time.monotonic()
        self.pipeline.stop()
        return time.monotonic() - began

    def __enter__(self) -> Self:
        self._observer.start()
        self.pipeline.start()
        assert self.pipeline.wait_ready(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.pipeline.stop()
        self.pipeline.finish(time.monotonic() + 10)
        self.pipeline.close(time.monotonic() + 10)
        self._over.set()
        self._observer.join()

    def _observe(self) -> None:
        while not self._over.wait(_OBSERVE_EVERY_S):
            self.looks += 1
            if wrong := imbalance(self.counts()):
                self.imbalances.append(wrong)

    def publish(self, item: WorkItem, predictions: Sequence[Prediction]) -> None:
        self.counters.produce()
        self.gate.wait()
        self.outcomes.append((list(predictions), item.prepared.facts, item.timing))
        self.results.append(item.sample)
        assert isinstance(item.model, Model)
        self.models.append(item.model)
        item.sample.settlement.done()
        self.counters.acknowledge()

    def report(self, error: EdgeAgentError, sample: Sample | None) -> None:
        if sample is None:
            self.troubles.append(str(error))
        else:
            self.given_up.append((sample, error))
