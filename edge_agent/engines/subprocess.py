"""An engine in a process of its own: a driver that crashes takes that process with it, and not the daemon."""

import mmap
from dataclasses import asdict

from edge_agent import settings
from edge_agent.chips import tensors
from edge_agent.engines import load_engine
from edge_agent.engines.accelerators import name_of
from edge_agent.engines.isolated import IsolatedEngine
from edge_agent.errors import ModelError
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.system import memory
from edge_agent.system.worker_process import Channel


class SubprocessEngine(IsolatedEngine):
    """Any engine, in a process: see `IsolatedEngine`.

    Args:
        file: the model file.
        accelerator: what it runs on.
        threads: CPU threads for one inference.
        timeout: seconds that an inference may take.
        model_memory: bytes that all models may take; None: not stated.

    Raises:
        ModelError: the model can't be loaded or run there.
    """

    def __init__(
        self,
        file: FileIdentity,
        accelerator: settings.Accelerator,
        threads: int,
        timeout: float,
        model_memory: int | None = None,
    ) -> None:
        own = accelerator if isinstance(accelerator, str) else accelerator.model_dump(mode="json")
        request = {"file": file.as_json(), "accelerator": own, "threads": threads, "model_memory": model_memory}
        super().__init__(__name__, request, name_of(accelerator), timeout)


def main(channel: Channel) -> None:
    """The process: takes a request for a model, then layouts of inputs, and answers each."""
    request = channel.receive()
    shared = mmap.mmap(request["memory"], tensors.MAX_TENSORS)
    memory.limit_data(memory.for_one_model(request["model_memory"]))
    try:
        file = FileIdentity.from_json(request["file"])
        stated = settings.Model.model_validate({"path": file.path, "accelerators": [request["accelerator"]]})
        engine = load_engine(file, stated.accelerators[0], request["threads"])
    except Exception as error:  # noqa: BLE001 - whatever keeps a model from being loaded is reported
        channel.send({"error": str(error)})
        return
    channel.send(
        {
            "runtime": engine.runtime,
            "share": engine.share and asdict(engine.share),
            "inputs": [asdict(one) for one in engine.inputs],
            "outputs": [asdict(one) for one in engine.outputs],
        }
    )
    while True:
        layout = channel.receive()["tensors"]
        try:
            channel.send({"outputs": tensors.write(shared, engine.run(tensors.read(shared, layout)))})
        except ModelError as error:
            channel.send({"error": str(error)})
