"""The process in which a model of speech to text is loaded and run before it serves."""

from pathlib import Path

import numpy as np

from edge_agent.models.moonshine import Moonshine, find
from edge_agent.system import memory
from edge_agent.system.worker_process import Channel
from edge_agent.timeseries.utterances import RATE


def main(channel: Channel) -> None:
    """Receives a folder, and sends the hash of its files and what is wrong with them; "": nothing is."""
    folder = Path(channel.receive())
    try:
        memory.limit(memory.for_one_model(None))
        files = find(folder)
        noise = np.random.default_rng(0).normal(0, 0.01, RATE).astype(np.float32)
        Moonshine(files, 1).transcribe(noise)
        channel.send([files.sha256, ""])
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises over a broken file is its refusal
        channel.send(["", str(error) if str(folder) in str(error) else f"{folder}: {error}"])
