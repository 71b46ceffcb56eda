"""Speech to text with Moonshine models, in ONNX Runtime.

Jeffries et al. 2024, "Moonshine: Speech Recognition for Live Transcription and Voice Commands",
https://arxiv.org/abs/2410.15608. A model is a folder as its publisher makes it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engines import Engine, load_engine
from edge_agent.engines.accelerators import CPU
from edge_agent.errors import InputError, ModelError
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.system.regular_file import open_regular
from edge_agent.system.text import decode_lenient
from edge_agent.timeseries.utterances import RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENCODER, DECODER, TOKENIZER = "encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin"
MAX_FILE = 1_000_000_000
MAX_TOKENIZER = 8_000_000
MIN_SAMPLES = RATE // 10
START, END = 1, 2
# Nobody speaks faster; the publisher's own bound. Without one, a decoder that repeats itself would not end.
TOKENS_PER_SECOND = 6.5
# Lengths of tokens from 128 on take two bytes.
_LONG = 128


@dataclass(frozen=True)
class MoonshineFiles:
    """The files of a model, as they were found.

    Attributes:
        encoder: makes features of sound.
        decoder: makes tokens of features.
        tokenizer: the texts of tokens.
    """

    encoder: FileIdentity
    decoder: FileIdentity
    tokenizer: FileIdentity

    @property
    def sha256(self) -> str:
        """Of the hashes of all files, in hexadecimal."""
        hashes = (file.sha256 for file in (self.encoder, self.decoder, self.tokenizer))
        return hashlib.sha256("".join(hashes).encode()).hexdigest()


def find(folder: Path) -> MoonshineFiles:
    """The files of a model.

    Raises:
        ModelError: the folder has none, or one of them can't be read.
    """
    missing = [name for name in (ENCODER, DECODER, TOKENIZER) if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder}: expected a Moonshine model, which has {ENCODER}, {DECODER} and {TOKENIZER}; "
                         f"there is no {' and no '.join(missing)}")  # fmt: skip
    return MoonshineFiles(*(_identify(folder / name) for name in (ENCODER, DECODER, TOKENIZER)))


def _identify(path: Path) -> FileIdentity:
    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise ModelError(f"{path}: must have at most {MAX_FILE / 1e6:g} MB, found {size / 1e6:.0f} MB")
        with open_regular(path) as file:
            return FileIdentity(path, "onnx", hashlib.file_digest(file, "sha256").hexdigest(), size)
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror}") from None


class Moonshine:
    """A model that is loaded.

    Args:
        files: of the model.
        threads: CPU threads of an inference.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        ModelError: the files are not those of a Moonshine model, or have changed.
    """

    def __init__(self, files: MoonshineFiles, threads: int) -> None:
        self._tokens = _read_tokens(files.tokenizer)
        self._encoder = load_engine(files.encoder, CPU, threads)
        self._decoder = load_engine(files.decoder, CPU, threads)
        self._check(files)
        self.runtime = self._encoder.runtime

    def _check(self, files: MoonshineFiles) -> None:
        takes = {spec.name for engine in (self._encoder, self._decoder) for spec in engine.inputs}
        expected = {"input_values", "input_ids", "encoder_hidden_states", "use_cache_branch"}
        if lacking := expected - takes:
            raise ModelError(
                f"{files.decoder.path.parent}: not a Moonshine model: no input {', '.join(sorted(lacking))}"
            )

    def transcribe(self, sound: "NDArray[np.float32]") -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        """The most likely next token, one after the other, until the end of the text.

        Args:
            sound: (samples,), -1 to 1, 16 kHz.

        Returns:
            The tokens, (tokens,), and the logarithms of their probabilities and that of the end, (tokens + 1,).

        Raises:
            InputError: the model's scores are no numbers.
            ModelError: the runtime fails.
        """
        if len(sound) < MIN_SAMPLES:
            return np.empty(0, np.int64), np.empty(0)
        mask = np.ones((1, len(sound)), np.int64)
        [features] = _run(self._encoder, {"input_values": sound[None], "attention_mask": mask})[:1]
        cache = {
            spec.name: np.zeros([1, spec.shape[1], 0, spec.shape[3]], np.float32)
            for spec in self._decoder.inputs
            if spec.name.startswith("past_key_values.")
        }
        tokens, scores = [START], list[float]()
        for _ in range(int(len(sound) / RATE * TOKENS_PER_SECOND) + 1):
            outputs = _run(self._decoder, {
                "input_ids": np.array([tokens[-1:]]),
                "encoder_hidden_states": features,
                "encoder_attention_mask": mask,  # of the sound, which the decoder itself reduces to the features
                "use_cache_branch": np.array([len(tokens) > 1]),
                **cache,
            })  # fmt: skip
            logits = outputs[0][0, -1].astype(np.float64)
            best = int(logits.argmax())
            if not np.isfinite(logits[best]):
                raise InputError("the model's scores for this sound are no numbers")
            scores.append(-float(np.log(np.exp(logits - logits[best]).sum())))
            if best == END:
                break
            tokens.append(best)
            # What the encoder's part of the cache holds is given out once only.
            made = dict(zip((spec.name for spec in self._decoder.outputs), outputs, strict=True))
            for name in cache:
                if ".encoder." not in name or len(tokens) == 2:  # noqa: PLR2004 - after the first
                    cache[name] = made[name.replace("past_key_values", "present")]
        return np.array(tokens[1:]), np.array(scores)

    def text(self, tokens: "NDArray[np.int64]") -> str:
        """The text of tokens; what is no UTF-8 becomes U+FFFD."""
        pieces = (self._tokens[token] for token in tokens.tolist() if token < len(self._tokens))
        return decode_lenient(b"".join(pieces)).replace("\u2581", " ").strip()


def _run(engine: Engine, tensors: "dict[str, NDArray[Any]]") -> "Sequence[NDArray[Any]]":
    return engine.run([tensors[spec.name] for spec in engine.inputs])


def _read_tokens(file: FileIdentity) -> list[bytes]:
    """The texts of the tokens, by their numbers: each after its length, in UTF-8, with U+2581 for a space.

    Raises:
        ModelError: the file is cut short, or too large.
    """
    if file.size > MAX_TOKENIZER:
        raise ModelError(f"{file.path}: must have at most {MAX_TOKENIZER / 1e6:g} MB")
    data, place = file.content(), 0
    tokens = []
    while place < len(data):
        length, place = data[place], place + 1
        if length >= _LONG and place < len(data):
            length, place = data[place] * _LONG + length - _LONG, place + 1
        if place + length > len(data):
            raise ModelError(f"{file.path}: ends within a token: it is no tokenizer, or was cut short: copy it again")
        tokens.append(data[place : place + length])
        place += length
    return tokens
