"""The process that rewrites a uint8 model as int8, for `models/int8_file.py`."""

from pathlib import Path

from edge_agent.errors import EdgeAgentError
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.quantization.uint8 import to_int8
from edge_agent.system import atomic_file, memory
from edge_agent.system.worker_process import Channel

# Files that are kept; those that were made first are dropped.
MAX_KEPT = 8


def main(channel: Channel) -> None:
    """Sends an empty text once the file is written, or else what is wrong."""
    request = channel.receive()
    memory.limit_data(memory.for_one_model(request["model_memory"]))
    out = Path(request["out"])
    try:
        content = to_int8(FileIdentity.from_json(request["file"]).content())
        out.parent.mkdir(parents=True, exist_ok=True)
        for old in sorted(out.parent.glob("*.tflite"), key=lambda path: path.stat().st_mtime)[: 1 - MAX_KEPT]:
            old.unlink()
        atomic_file.write(out, content)
    except EdgeAgentError as error:
        channel.send(str(error))
    except OSError as error:
        channel.send(f"{out}: can't be written: {error.strerror}")
    except Exception as error:  # noqa: BLE001 - whatever the schema's classes raise over an odd file
        channel.send(f"it can't be rewritten: {error}")
    else:
        channel.send("")
