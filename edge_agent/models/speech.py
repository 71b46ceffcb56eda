"""The built-in recognizer of spoken phrases: PocketSphinx with a grammar of them, against any other speech.

A grammar always finds the phrase that is least unlike what was said. So each utterance is recognized a second time, as
a free sequence of phones: a phrase counts only if it explains the sound about as well (rejection by a phone loop: Rose
and Paul 1990, "A hidden Markov model based keyword recognition system").
"""

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.decoders import Limits
from edge_agent.errors import MissingExtraError, ModelError
from edge_agent.models.built_in import BuiltIn
from edge_agent.samples import Prediction
from edge_agent.settings.speech import Speech
from edge_agent.timeseries.utterances import RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pocketsphinx import Decoder

# By how much worse than free phones, in thousandths of PocketSphinx' scaled logarithm a frame, a phrase is as likely
# said as not, and how fast that changes. Phrases of seven synthetic voices were above -1.5, other speech below -2.
EVEN, SLOPE = -1.6, 0.25
# Frames of 10 ms of an utterance that may belong to no word. The endpointer leaves half of that around each.
MAX_REST = 100
MIN_FRAMES = 10


class SpeechModel(BuiltIn):
    """Recognizes which of some phrases was said.

    Args:
        options: the phrases.

    Attributes:
        labels: the phrases.

    Raises:
        ModelError: a word of a phrase is not in the dictionary.
        MissingExtraError: pocketsphinx is not installed.
    """

    task = "classification"
    threshold = None

    def __init__(self, options: Speech) -> None:
        self.options = options
        self.labels = options.phrases
        super().__init__("speech", "PocketSphinx")
        self._grammar, self._phones = _decoders(options)
        self._lock = threading.Lock()

    def infer_each(self, tensors: "Sequence[NDArray[np.int16]]", state: object = None) -> "list[list[NDArray[Any]]]":
        """Recognizes utterances.

        Args:
            tensors: of each, (samples,), int16, 16 kHz.
            state: there is none.

        Returns:
            Of each, one array (2,), float64: the number of the phrase, or -1, and its confidence.
        """
        del state
        with self._lock:
            return [[np.array(self._recognize(pcm.tobytes()))] for pcm in tensors]

    def _recognize(self, pcm: bytes) -> tuple[float, float]:
        frames = len(pcm) // 2 * 100 // RATE
        if frames < MIN_FRAMES:  # PocketSphinx fails at nothing
            return -1.0, 0.0
        said, score, spoken = _best(self._grammar, pcm)
        if said not in self.labels or frames - spoken > MAX_REST:
            return -1.0, 0.0
        _, free, _ = _best(self._phones, pcm)
        worse = 1000 * (score - free) / spoken
        return float(self.labels.index(said)), 1 / (1 + math.exp(-max(-500.0, (worse - EVEN) / SLOPE)))

    def predictions(self, outputs: Sequence[Any], placements: Sequence[Any], limits: Limits) -> list[Prediction]:
        """The phrase that was said; none if it was something else.

        Args:
            outputs: see `infer_each`.
            placements: do not apply.
            limits: its `min_confidence` applies.
        """
        del placements
        number, confidence = int(outputs[0][0]), float(outputs[0][1])
        known = number >= 0 and confidence >= max(limits.min_confidence, LEAST)
        return [Prediction(self.labels[number], number, confidence)] if known else []

    def describe(self) -> str:
        """One line for a person."""
        return f"built in, PocketSphinx, {len(self.labels)} spoken phrases, {self.task}"


LEAST = 0.5
"""Minimum confidence, whatever the settings say: below it, something else was more likely said."""


def _decoders(options: Speech) -> "tuple[Decoder, Decoder]":
    """What recognizes the phrases, and what recognizes any sequence of phones."""
    try:
        from pocketsphinx import Decoder, get_model_path
    except ImportError as error:
        raise MissingExtraError("recognizing speech", "speech", error) from None
    about = {"samprate": RATE, "loglevel": "FATAL", "bestpath": False}
    grammar = Decoder(lm=None, **about)
    for word, phones in options.pronunciations.items():
        grammar.add_word(word, phones, update=True)
    for word in dict.fromkeys(" ".join(options.phrases).split()):
        if grammar.lookup_word(word) is None:
            raise ModelError(f"the dictionary has no word {word!r}: state how it is spoken in `pronunciations`")
    grammar.add_jsgf_string("phrases", f"#JSGF V1.0; grammar g; public <g> = {' | '.join(options.phrases)};")
    grammar.activate_search("phrases")
    phones = get_model_path("en-us/en-us-phone.lm.bin")
    free = Decoder(lm=None, dict=None, allphone=phones, lw=2.0, beam=1e-20, pbeam=1e-20, **about)
    return grammar, free


def _best(decoder: "Decoder", pcm: bytes) -> tuple[str, float, int]:
    """What was said, the logarithm of how well the sound fits, and how many frames of 10 ms belong to words."""
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    if found is None:
        return "", 0.0, 0
    segments = list(decoder.seg())
    words = [one for one in segments if one.word[0] not in "<[+"]
    score = sum(math.log(max(one.ascore, 1e-300)) for one in segments)
    return found.hypstr, score, sum(one.end_frame - one.start_frame + 1 for one in words)
