"""A new version serves, and is watched: whether it fails, and how long it takes. Whether it crashes, `Store` knows."""

import time
from collections.abc import Callable

from edge_agent.settings.update import Probation
from edge_agent.update.host import Host, RefusedError, inference_ms, work_of

POLL_EVERY = 0.5
# Fewer failures, or fewer inferences, prove nothing.
MIN_FAILURES = 3
MIN_RUNS = 10


def watch(host: Host, name: str, before_ms: float, options: Probation, pause: Callable[[float], None]) -> None:
    """Watches a version for as long as is stated.

    Args:
        host: the agent.
        name: of the model.
        before_ms: how long an inference of the version before took, on average; 0 if unknown.
        options: how long, and what is asked of it.
        pause: waits so many seconds; what it raises ends the watch.

    Raises:
        RefusedError: it is not good enough.
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
    """How many inputs the model's pipelines have been through with, and at how many of them it failed."""
    counts = [pipeline.counters.as_dict() for pipeline in host.pipelines(name)]
    failed = sum(count["dropped"]["failed"] for count in counts)
    return sum(count["inferred"] for count in counts) + failed, failed
