"""Produces results without a broker, and prints the number of each that is safe on the disk.

Run as a process of its own: `python -m tests.faults.produce FOLDER [unsynced]`. With `unsynced` it writes lines to a
file instead and says so without having had them written to the disk: what a power cut does to those shows what it is.
"""

import itertools
import sys
from functools import partial
from pathlib import Path

from edge_agent import settings
from edge_agent.counters import Counters, Settlement
from edge_agent.mqtt.delivery import Delivery
from edge_agent.mqtt.outbox import Outbox


def main() -> None:
    folder = Path(sys.argv[1])
    if "unsynced" in sys.argv:
        with (folder / "lines").open("w") as lines:
            for number in itertools.count(1):
                lines.write(f"{number}\n")
                lines.flush()
                print(number, flush=True)
    counters = Counters()
    outbox = Outbox(settings.Outbox(), folder / "outbox.db", lambda _: counters)
    outbox.start()
    for number in itertools.count(1):
        document = {"boot_id": "boot", "seq": counters.produce(), "clock_synced": True, "padding": "x" * 400}
        settlement = Settlement(partial(print, number, flush=True))
        outbox.put(Delivery("lab", "edge/bench/lab/result", document, settlement=settlement))


if __name__ == "__main__":
    main()
