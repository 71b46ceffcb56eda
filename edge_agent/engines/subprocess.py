"""An engine in a process of its own: a driver that crashes takes that process with it, and not the daemon.

Tensors are handed over in shared memory; only their shapes go through a pipe.
"""

import contextlib
import json
import mmap
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent import settings
from edge_agent.engines import Share, TensorSpec, load_engine
from edge_agent.engines.supervised import LOAD_TIMEOUT, EngineLostError
from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# For the tensors of one call, in or out. Memory that no tensor ever takes is never really there.
MAX_TENSORS = 1 << 28
# Seconds that a process which has closed its pipe may take to end.
END_TIMEOUT = 1.0
_ALIGNMENT = 64
_MAX_LINE = 1 << 20
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])["path"]
from edge_agent.engines.subprocess import main
main()
"""

Layout = list[tuple[str, list[int]]]
"""Type and shape of each tensor, in the order in which they lie in the shared memory."""


class Isolated:
    """See `Engine`. Not thread-safe.

    Args:
        path: the model file.
        file_format: its format.
        accelerator: what it runs on.
        threads: CPU threads for one inference.
        timeout: seconds that an inference may take.

    Raises:
        ModelError: the model can't be loaded or run there.
    """

    def __init__(
        self, path: Path, file_format: str, accelerator: settings.Accelerator, threads: int, timeout: float
    ) -> None:
        self._timeout = timeout
        memory = os.memfd_create("tensors")
        os.ftruncate(memory, MAX_TENSORS)
        self._memory = mmap.mmap(memory, MAX_TENSORS)
        own = accelerator if isinstance(accelerator, str) else accelerator.model_dump(mode="json")
        request = {"path": sys.path, "memory": memory}
        request |= {"file": str(path), "format": file_format, "accelerator": own, "threads": threads}
        self._process = subprocess.Popen(  # noqa: S603 - this program itself
            [sys.executable, "-P", "-c", _START, json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(memory,),
            start_new_session=True,  # a Ctrl-C is for its parent
        )
        os.close(memory)
        self._ended = weakref.finalize(self, _end, self._process)
        try:
            facts = self._answer(LOAD_TIMEOUT)
            self.runtime, self.accelerator = facts["runtime"], facts["accelerator"]
            self.share = facts["share"] and Share(**facts["share"])
            self.inputs, self.outputs = (
                tuple(TensorSpec(**one | {"shape": tuple(one["shape"])}) for one in facts[kind])
                for kind in ("inputs", "outputs")
            )
            self.run([np.zeros([max(1, size) for size in one.shape], one.dtype) for one in self.inputs])
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference: see `Engine.run`.

        Raises:
            EngineLostError: the process has ended, or gives no answer in time.
        """
        layout = _write(self._memory, inputs)
        self._say(layout)
        return [array.copy() for array in _read(self._memory, self._answer(self._timeout)["outputs"])]

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._ended()

    def _say(self, layout: Layout) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        try:
            self._process.stdin.write(json.dumps(layout).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # ValueError: it has been closed
            raise EngineLostError(self._how_it_ended()) from None

    def _answer(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        pipe, line = self._process.stdout.fileno(), b""
        poll, deadline = select.poll(), time.monotonic() + timeout
        poll.register(pipe, select.POLLIN)
        while not line.endswith(b"\n"):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                self.close()
                raise EngineLostError(f"gives no answer for {timeout:g} s")
            block = os.read(pipe, 65536)
            line += block
            if not block or len(line) > _MAX_LINE:
                raise EngineLostError(self._how_it_ended())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ModelError(answer["error"])
        return answer

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_TIMEOUT)
        self.close()
        code = self._process.returncode
        return f"its process has crashed ({signal.Signals(-code).name})" if code < 0 else "its process has ended"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that may be hanging, or has ended already."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _write(memory: mmap.mmap, arrays: Sequence["NDArray[Any]"]) -> Layout:
    """Lays arrays out in the shared memory.

    Raises:
        ModelError: they do not fit.
    """
    at, layout = 0, Layout()
    for array in arrays:
        if at + array.nbytes > MAX_TENSORS:
            raise ModelError(f"its tensors take more than {MAX_TENSORS >> 20} MiB: it can't be isolated")
        np.ndarray(array.shape, array.dtype, memory, at)[...] = array
        layout.append((array.dtype.name, list(array.shape)))
        at += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    return layout


def _read(memory: mmap.mmap, layout: Layout) -> list["NDArray[Any]"]:
    """The arrays in the shared memory, not copied."""
    at, arrays = 0, list["NDArray[Any]"]()
    for dtype, shape in layout:
        arrays.append(np.ndarray(shape, dtype, memory, at))
        at += -(-arrays[-1].nbytes // _ALIGNMENT) * _ALIGNMENT
    return arrays


def main() -> None:
    """The process: takes the request as its argument, and a layout a line on standard input."""
    request = json.loads(sys.argv[1])
    layouts: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(layouts,), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some runtimes write to standard output

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    memory = mmap.mmap(request["memory"], MAX_TENSORS)
    os.close(request["memory"])
    try:
        wanted = settings.Model.model_validate({"path": request["file"], "accelerators": [request["accelerator"]]})
        engine = load_engine(Path(request["file"]), request["format"], wanted.accelerators[0], request["threads"])
    except Exception as error:  # noqa: BLE001 - whatever keeps a model from being loaded is told
        say({"error": str(error)})
        return
    say(
        {
            "runtime": engine.runtime,
            "accelerator": engine.accelerator,
            "share": engine.share and asdict(engine.share),
            "inputs": [asdict(one) for one in engine.inputs],
            "outputs": [asdict(one) for one in engine.outputs],
        }
    )
    while True:
        try:
            outputs = engine.run(_read(memory, json.loads(layouts.get())))
            say({"outputs": _write(memory, outputs)})
        except ModelError as error:
            say({"error": str(error)})


def _listen(layouts: "queue.SimpleQueue[str]") -> None:
    """Takes what the parent says; when that has ended, so does this process, be the model hanging or not."""
    for line in sys.stdin:
        layouts.put(line)
    os._exit(0)
