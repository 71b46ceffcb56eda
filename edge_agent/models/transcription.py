"""Speech to text as the model of a pipeline: a prediction whose label is what was said."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import Limits
from edge_agent.errors import ModelError
from edge_agent.models.built_in import BuiltIn
from edge_agent.models.bundle import MANIFEST, TRANSCRIPTION, read_manifest
from edge_agent.models.moonshine import Moonshine, find
from edge_agent.models.self_test import PATIENCE
from edge_agent.samples import Prediction
from edge_agent.system.worker_process import WorkerEndedError, WorkerHungError, WorkerProcess

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TRIAL = "edge_agent.models.transcription_trial"
MAX_THREADS = 4


class TranscriptionModel(BuiltIn):
    """Writes down what is said.

    Args:
        folder: of the model.

    Attributes:
        labels: there are none.
        threshold: there is none.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        ModelError: the folder holds no Moonshine model, or the runtime can't run it.
    """

    task = TRANSCRIPTION
    threshold = None
    labels: tuple[str, ...] = ()
    # With moonshine-tiny-en, right transcripts of people and of synthetic voices had 0.8 and more, all but one of two
    # words; noise had 0.2 to 0.7.
    min_confidence = 0.7

    def __init__(self, folder: Path) -> None:
        files = find(folder)
        manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else None
        _try(folder, files.sha256)
        self._model = Moonshine(files, min(os.cpu_count() or 1, MAX_THREADS))
        name, version = (manifest.name, manifest.version) if manifest else (folder.name, files.sha256[:12])
        super().__init__(name, self._model.runtime)
        self.identity = {"name": name, "version": version, "sha256": files.sha256}
        self._lock = threading.Lock()

    def infer_each(self, tensors: "Sequence[NDArray[np.int16]]", state: object = None) -> "list[list[NDArray[Any]]]":
        """Writes utterances down.

        Args:
            tensors: of each, (samples,), int16, 16 kHz.
            state: there is none.

        Returns:
            Of each, the tokens and the logarithms of their probabilities; see `Moonshine.transcribe`.
        """
        del state
        with self._lock:
            return [list(self._model.transcribe(pcm.astype(np.float32) / np.float32(32768))) for pcm in tensors]

    def predictions(self, outputs: Sequence[Any], placements: Sequence[Any], limits: Limits) -> list[Prediction]:
        """What was said, with the geometric mean of the tokens' probabilities as its confidence; none if nothing was.

        Args:
            outputs: see `infer_each`.
            placements: do not apply.
            limits: its `min_confidence` applies.
        """
        del placements
        tokens, scores = outputs
        text = self._model.text(tokens)
        confidence = float(np.exp(scores.mean())) if len(scores) else 0.0
        return [Prediction(text, None, confidence)] if text and confidence >= limits.min_confidence else []

    def describe(self) -> str:
        """One line for a person."""
        return f"{self.identity['name']}, {self._model.runtime}, {self.task}"


def _try(folder: Path, sha256: str) -> None:
    """Loads and runs the model in a process of its own: a broken file can crash or hang the runtime.

    Raises:
        ModelError: it does, or refuses it.
    """
    with WorkerProcess(_TRIAL, keep_stderr=True) as worker:
        try:
            worker.send(str(folder))
            tried, problem = worker.receive(PATIENCE)
        except (WorkerHungError, WorkerEndedError) as error:
            raise ModelError(
                f"{folder}: its trial has ended without a result ({error}): copy the model again"
            ) from None
    if problem:
        raise ModelError(problem)
    if tried != sha256:
        raise ModelError(f"{folder}: its files have changed while they were read: try again")
