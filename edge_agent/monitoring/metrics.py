"""Metrics for Prometheus. The agent's own counters are read at each scrape; only durations are recorded here."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edge_agent.errors import MissingExtraError
from edge_agent.monitoring.web import App
from edge_agent.samples import Timing

try:
    from prometheus_client import (
        CollectorRegistry,
        Histogram,
        ProcessCollector,
        disable_created_metrics,
        make_wsgi_app,
    )
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingExtraError("serving metrics", "metrics", error) from None

Status = dict[str, Any]
# Characters of a label that says why.
MAX_REASON = 300
# Seconds: from a small model on a fast machine to a language model on a slow one.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# Names follow https://prometheus.io/docs/practices/naming/. In each: the counter's key, and what it counts.
COUNTERS = (
    ("captured", "inputs_captured", "Inputs that have come in."),
    ("inferred", "inputs_inferred", "Inputs that have been through the model."),
    ("withheld", "results_withheld", "Results that the publish options hold back."),
    ("out_of_range", "inputs_out_of_range", "Inputs with values that the quantized model can't take."),
    ("produced", "results_produced", "Results that have been made, or found in the outbox at the start."),
    ("restored", "results_restored", "Results of earlier runs that have been found in the outbox."),
    ("acknowledged", "results_acknowledged", "Results that the broker has."),
)
GAUGES = (
    ("in_progress", "inputs_in_progress", "Inputs that wait or are worked on."),
    ("queued", "results_queued", "Results that the broker does not have yet."),
)
REASONS = (
    ("dropped", "inputs_dropped", "Inputs that have been given up."),
    ("discarded", "results_discarded", "Results that have been given up."),
)


class Metrics:
    """The metrics of an agent.

    Args:
        status: returns the state of the agent, see `AgentStatus.status`; called at each scrape.

    Attributes:
        app: answers scrapes.
    """

    def __init__(self, status: Callable[[], Status]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped there; nobody needs these series
        registry = CollectorRegistry()
        registry.register(_Agent(status))
        ProcessCollector(registry=registry)
        self._durations = Histogram(
            "edge_agent_stage_duration_seconds",
            "Where the time of an input goes.",
            ("pipeline", "stage"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.app: App = make_wsgi_app(registry)

    def observe(self, pipeline: str, timing: Timing) -> None:
        """Records the durations of one input."""
        for stage in ("queue", "preprocess", "inference", "postprocess"):
            self._durations.labels(pipeline, stage).observe(getattr(timing, stage) / 1000)


class _Agent(Collector):
    """Reads the agent's state, all counters of a pipeline at one moment, so that its sums balance in a scrape."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def describe(self) -> list[Metric]:
        """Nothing: the agent need not be up yet when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics but the durations."""
        status = self._status()
        yield InfoMetricFamily(
            "edge_agent", "The agent.", value={key: status[key] for key in ("version", "device_id", "boot_id")}
        )
        yield from _of_pipelines(status["counters"])
        yield _problems(status["pipelines"])
        yield from _of_models(status["models"])
        yield from _of_updates(status.get("update"))
        yield from _of_outbox(status)
        yield from _of_device(status["thermal"], status["battery"])


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"edge_agent_{name}", text, value=value)


def _of_pipelines(counters: dict[str, Any]) -> Iterator[Metric]:
    for family, table in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
        for key, name, text in table:
            metric = family(f"edge_agent_{name}", text, labels=["pipeline"])
            for pipeline, counts in counters.items():
                metric.add_metric([pipeline], counts[key])
            yield metric
    for key, name, text in REASONS:
        metric = CounterMetricFamily(f"edge_agent_{name}", text, labels=["pipeline", "reason"])
        for pipeline, counts in counters.items():
            for reason, count in counts[key].items():
                metric.add_metric([pipeline, reason], count)
        yield metric


def _problems(pipelines: dict[str, Any]) -> Metric:
    metric = GaugeMetricFamily(
        "edge_agent_pipeline_failed", "Whether a pipeline is known not to work.", labels=["pipeline"]
    )
    for name, facts in pipelines.items():
        metric.add_metric([name], bool(facts["problem"]))
    return metric


def _of_models(models: dict[str, Any]) -> Iterator[Metric]:
    about = InfoMetricFamily("edge_agent_model", "Models that are loaded.", labels=["model"])
    accelerator = InfoMetricFamily("edge_agent_accelerator", "What models run on.", labels=["model"])
    moves = CounterMetricFamily(
        "edge_agent_accelerator_moves", "How often a model has moved to another accelerator.", labels=["model"]
    )
    for name, facts in models.items():
        about.add_metric([name], {key: str(facts[key]) for key in ("version", "sha256", "engine", "task")})
        on = facts["accelerator"]
        accelerator.add_metric([name], {"asked": ",".join(on["asked"]), "in_use": on["in_use"]})
        moves.add_metric([name], on["moves"])
    yield from (about, accelerator, moves)


def _of_updates(update: Mapping[str, Any] | None) -> Iterator[Metric]:
    if update is None:
        return
    error = update["error"] or ""
    yield _gauge("update_check_failed", "Whether the last check for updates has failed.", bool(error))
    about = {"error": error[:MAX_REASON]}
    yield InfoMetricFamily("edge_agent_update_check", "The last check for updates.", value=about)
    models = InfoMetricFamily("edge_agent_update", "The latest update of each model.", labels=["model"])
    for name, facts in update["models"].items():
        texts = {key: str(facts.get(key) or "") for key in ("channel", "step", "version", "reason")}
        models.add_metric([name], {key: text[:MAX_REASON] for key, text in texts.items()})
    yield models


def _of_outbox(status: Status) -> Iterator[Metric]:
    outbox = status["outbox"]
    yield _gauge("broker_connected", "Whether the broker is there.", status["broker"]["connected"])
    yield _gauge("outbox_disk_results", "Results that wait on the disk.", outbox["on_disk"])
    yield _gauge("outbox_disk_bytes", "Size of the results that wait on the disk.", outbox["bytes"])
    yield _gauge("outbox_limit_bytes", "Bound on the results that wait on the disk.", outbox["max_size"])
    yield _gauge("outbox_failed", "Whether the outbox can't be written.", bool(outbox["problem"]))
    yield _gauge("outbox_damaged_files", "Damaged outboxes set aside since the start.", outbox["damaged_files"])


def _of_device(thermal: dict[str, Any], battery: dict[str, Any]) -> Iterator[Metric]:
    if (celsius := thermal["temperature_c"]) is not None:
        yield _gauge("temperature_celsius", "Temperature of the CPU.", celsius)
    if thermal["throttled"] is not None:
        yield _gauge("throttled", "Whether the CPU is held back for heat or its power supply.", thermal["throttled"])
    yield _gauge("live_work_ratio", "Share of their work that live sources may have.", thermal["factor"])
    if "percentage" in battery:
        yield _gauge("battery_charge_ratio", "Charge of the battery.", battery["percentage"] / 100)
