"""Hours of steady work: `EDGE_AGENT_SOAK_SECONDS=3600 make test-faults`."""

import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import scenarios
from tests.broker import Mosquitto, Subscriber
from tests.daemon_process import Daemon
from tests.reconcile import Ledger, on

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

SECONDS = float(os.environ.get("EDGE_AGENT_SOAK_SECONDS", "120"))
RATE = 50
# Memory pools, caches and lazily started threads have filled up by then.
WARM_UP = 20.0


class Sample(NamedTuple):
    """What a process holds: memory in kB, and counts."""

    resident: int
    descriptors: int
    threads: int
    written: int


def sample(process: int) -> Sample:
    folder = Path(f"/proc/{process}")
    fields = dict(
        line.split(":", 1)
        for name in ("smaps_rollup", "io")
        for line in folder.joinpath(name).read_text().splitlines()
        if ":" in line and not line[0].isdigit()
    )
    return Sample(
        resident=int(fields["Rss"].split()[0]),
        descriptors=len(list(folder.joinpath("fd").iterdir())),
        threads=len(list(folder.joinpath("task").iterdir())),
        written=int(fields["write_bytes"]),
    )


def test_a_long_run_at_fifty_results_a_second_costs_no_more_than_a_short_one(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    config = scenarios.film(mosquitto, "steady", scenarios.clip(tmp_path / "clip.avi", RATE), stats_interval="10s")
    with Subscriber(mosquitto.port, "edge/steady/#") as client, Daemon(tmp_path / "agent", config) as daemon:
        client.wait_for(on("result"), 1)
        time.sleep(WARM_UP)
        began, count, samples = time.monotonic(), len(client.messages), [sample(daemon.pid)]
        while time.monotonic() < began + SECONDS:
            time.sleep(1)
            samples.append(sample(daemon.pid))
        rate = (len(client.messages) - count) / (time.monotonic() - began)
        daemon.stop()
    tenth = max(3, len(samples) // 10)
    first, last = (statistics.median(s.resident for s in part) for part in (samples[:tenth], samples[-tenth:]))
    growth = last / first - 1
    print(
        f"{SECONDS:g} s at {rate:.1f} results a second: {first / 1024:.1f} MiB grew by {growth:.2%}, "
        f"descriptors {samples[0].descriptors} to {samples[-1].descriptors}, "
        f"threads {samples[0].threads} to {samples[-1].threads}, "
        f"{samples[-1].written - samples[0].written} bytes written to disk"
    )
    assert rate > 0.95 * RATE
    assert growth < 0.02
    assert samples[-1].descriptors <= samples[0].descriptors
    assert samples[-1].threads <= samples[0].threads
    assert samples[-1].written == samples[0].written
    ledger = Ledger(client.messages)
    ledger.without_gaps("lab")
    ledger.in_order("lab")
    ledger.balanced()
