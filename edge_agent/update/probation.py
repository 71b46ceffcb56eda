"""Watches failures and latency of a new version in service. Crashes are counted by `Store`."""

import time
from collections.abc import Callable

from edge_agent.settings.update import Probation
from edge_agent.update.host import Host, RefusedError, inference_ms, work_of

POLL_EVERY = 0.5
# Fewer failures, or fewer inferences, are not significant.
MIN_FAILURES = 3
MIN_RUNS = 10


def watch(host: Host, name: str, before_ms: float, options: Probation, pause: Callable[[float], None]) -> None:
    """Watches a version for `options.duration`.

    Args:
        host: the agent.
        name: of the model.
        before_ms: mean duration of an inference of the previous version; 0 if unknown.
        options: the duration and the limits.
        pause: sleeps for the given seconds; raises to cancel.

    Raises:
        RefusedError: the version exceeds a limit.
    """
    work, (seen, failed) = work_of(host.serving(name)), _outcomes(host, name)
    deadline = time.monotonic() + options.duration
    while time.monotonic() < deadline:
        pause(min(POLL_EVERY, options.duration))
        seen_now, failed_now = _outcomes(host, name)
        inputs, failures = seen_now - seen, failed_now - failed
        if failures >= MIN_FAILURES and failures > inputs * options.max_error_rate:
            raise RefusedError(f"it failed at {failures} of {inputs} inputs")
        now = work_of(host.serving(name))
        took = inference_ms(now, work)
        if before_ms and now.runs - work.runs >= MIN_RUNS and took > before_ms * options.max_slowdown:
            raise RefusedError(
                f"its inference takes {took:.1f} ms, that of the version before {before_ms:.1f} ms: more than "
                f"{options.max_slowdown:g} times as long"
            )


def _outcomes(host: Host, name: str) -> tuple[int, int]:
    """The number of inputs that the model's pipelines have processed, and how many of them failed."""
    counts = [pipeline.counters.as_dict() for pipeline in host.running().values() if pipeline.options.model == name]
    failed = sum(count["dropped"]["failed"] for count in counts)
    return sum(count["inferred"] for count in counts) + failed, failed
