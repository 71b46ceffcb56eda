"""Runs a recording through the stages again, and compares with what became of its inputs then."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edge_agent import settings
from edge_agent.decoders.boxes import overlap
from edge_agent.errors import ConfigError, InputError, ModelError
from edge_agent.keeping.record import digests_of
from edge_agent.keeping.recording import Recording, sample_of
from edge_agent.models.model import Model
from edge_agent.models.stages import Stages
from edge_agent.sample_store.segment import Entry, StoreError, Walk
from edge_agent.samples import Prediction, Sample, content_of
from edge_agent.settings.series import Anomaly

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Stage = Literal["input", "inference", "decode", "result"]
STAGES: tuple[Stage, ...] = ("input", "inference", "decode", "result")
SAME_OBJECT, SAME_BOX = 0.5, 0.95


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of an input then and now.

    Attributes:
        number: of the input, from 1.
        sample: the input.
        then: the result document's content, or the error, as recorded.
        now: the same of this run.
        stage: the first at which they differ; None: they are equal, as far as they were compared.
        compared: how they were compared: `bits`, every stage; `stages`, all but the result, which depends on inputs
            from before the recording; `results`, only the result, since the model, the options or the input differ.
        predictions: of this run.
        image: the picture, (height, width, 3), uint8, BGR, where it was asked for and is one.
    """

    number: int
    sample: Sample
    then: Mapping[str, Any]
    now: Mapping[str, Any]
    stage: Stage | None
    compared: Literal["bits", "stages", "results"]
    predictions: tuple[Prediction, ...] = ()
    image: "NDArray[np.uint8] | None" = None


class Replay:
    """Replays one recording.

    Args:
        recording: the recording.
        model: what it is run through.
        options: of the pipeline.
        same: whether model and options are those of the recording.

    Attributes:
        found: counts what is damaged in the file.
    """

    def __init__(self, recording: Recording, model: Model, options: settings.Pipeline, *, same: bool) -> None:
        self.found = Walk()
        self._recording = recording
        self._model = model
        self._options = options
        self._same = same
        self._stages: Stages | None = None
        self._memory = _memory(options, model)

    def run(self, *, at_own_pace: bool = False, images: bool = False) -> Iterator[Replayed]:
        """Runs all inputs through the stages, in their order.

        Args:
            at_own_pace: wait between inputs as long as it was then.
            images: whether the pictures are wanted.

        Raises:
            StoreError: the recording can't be used.
            OSError: it can't be read.
        """
        began, first = time.monotonic(), None
        for number, entry in enumerate(self._recording.entries(self.found), 1):
            sample = sample_of(entry)
            first = sample.captured if first is None else first
            if at_own_pace:
                time.sleep(max(0.0, began + (sample.captured - first) - time.monotonic()))
            yield self._one(number, entry, sample, early=sample.captured - first < self._memory, images=images)

    def _one(self, number: int, entry: Entry, sample: Sample, *, early: bool, images: bool) -> Replayed:
        document = entry.document
        if self._stages is None:
            self._stages = Stages("replay", self._with_threshold(document), self._model)
        exact = self._same and isinstance(facts := document["input"], dict) and facts.get("exact") is not False
        exact = exact and document.get("sha256", self._model.file.sha256) == self._model.file.sha256
        compared: Literal["bits", "stages", "results"] = "results" if not exact else "stages" if early else "bits"
        then = _then(document)
        try:
            digests, now, predictions, image = self._through(self._stages, sample, document, images=images)
        except (InputError, ModelError) as error:
            now, digests, predictions, image = {"error": str(error)}, {}, [], None
        stage = self._first_difference(document, digests, then, now, compared)
        return Replayed(number, sample, then, now, stage, compared, tuple(predictions), image)

    def _through(
        self, stages: Stages, sample: Sample, document: Mapping[str, Any], *, images: bool
    ) -> tuple[dict[str, str], dict[str, Any], list[Prediction], Any]:
        (item,) = stages.begin([sample])
        # A JPEG that is decoded whole gives other pixels than one that is decoded at half its size.
        stages.prepare(item, needs_image=document.get("whole") is True)
        stages.infer([item])
        decoded = stages.decode(item)
        predictions, _ = stages.postprocess(item, decoded)
        digests = digests_of(decoded, item.prepared.tensor, item.outputs)
        now = json.loads(json.dumps(content_of(predictions, self._model.task)))
        image = item.prepared.image
        if images and image is None and self._model.takes_pictures:
            (again,) = stages.begin([sample])
            stages.prepare(again, needs_image=True)
            image = again.prepared.image
        return digests, now, predictions, image

    def _with_threshold(self, document: Mapping[str, Any]) -> settings.Pipeline:
        """The options, with the threshold that had been learned by then."""
        threshold = document.get("threshold")
        if self._same and isinstance(threshold, float) and self._model.task == "anomaly":
            return self._options.model_copy(update={"anomaly": Anomaly(threshold=threshold)})
        return self._options

    def _first_difference(
        self,
        document: Mapping[str, Any],
        digests: Mapping[str, str],
        then: Mapping[str, Any],
        now: Mapping[str, Any],
        compared: str,
    ) -> Stage | None:
        recorded = document.get("digests")
        if compared != "results" and isinstance(recorded, dict) and digests:
            for stage in STAGES[:-1]:
                if recorded.get(stage) != digests[stage]:
                    return stage
        if compared == "stages":
            return None
        return None if _without_numbers(then) == _without_numbers(now) else "result"


def options_of(recording: Recording) -> settings.Pipeline:
    """The options of the recorded pipeline; its source is a stand-in of the same kind, since none is opened.

    Raises:
        StoreError: the head of the recording is not as expected.
    """
    head = recording.head
    source, options = head.get("source"), head.get("options")
    if not isinstance(source, dict) or not isinstance(options, dict):
        raise StoreError(f"{recording.path}: the head of the recording lacks source or options")
    stand_in: dict[str, Any] = {"type": "images", "path": "."}
    if source.get("type") == "pipeline":
        stand_in = {"type": "pipeline", "name": "recorded"}
    elif source.get("type") == "mqtt":
        stand_in = {**source, "topic": "recorded"}
    try:
        return settings.Pipeline.model_validate({"source": stand_in, "model": "recorded", **options})
    except ValueError as error:
        raise StoreError(f"{recording.path}: the options of the recording are not known here: {error}") from None


def model_options(recording: Recording) -> tuple[settings.Model, str]:
    """The settings of the recorded model, and the folder that its paths are relative to.

    Raises:
        StoreError: the head of the recording is not as expected.
    """
    model = recording.head.get("model")
    options = model.get("options") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(options, dict):
        raise StoreError(f"{recording.path}: the head of the recording lacks the model")
    try:
        return settings.Model.model_validate(options), str(model.get("folder", "."))
    except ValueError as error:
        raise StoreError(f"{recording.path}: the model's settings are not known here: {error}") from None


def check_fits(recording: Recording, model: Model) -> None:
    """Checks that a model can take what was recorded.

    Raises:
        ConfigError: its task is another one.
    """
    recorded = recording.head.get("model")
    known = recorded if isinstance(recorded, dict) else {}
    if known.get("task") != model.task:
        what = f"recorded of a model for {known.get('task')}, this one is for {model.task}"
        raise ConfigError([f"{recording.path}: {what}"])
    if known.get("pictures") != model.takes_pictures:
        then, now = ("pictures", "readings") if known.get("pictures") else ("readings", "pictures")
        raise ConfigError([f"{recording.path}: recorded of a model that takes {then}, this one takes {now}"])


@dataclass(slots=True)
class Changes:
    """What has changed between the results then and now, by label.

    Attributes:
        rows: for each label: predictions then, now, found by both with nearly the same box, moved, gained, lost.
        turned: of classifications: how often the best label has turned into another one.
    """

    rows: dict[str, Counter[str]] = field(default_factory=dict)
    turned: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, one: Replayed) -> bool:
        """Counts an input; returns whether anything but a confidence has changed."""
        then, now = _predictions(one.then), _predictions(one.now)
        if not any("box" in prediction for prediction in (*then, *now)):
            before, after = _best(then), _best(now)
            self._count(before, "then")
            self._count(after, "now")
            if before == after:
                self._count(before, "same")
                return False
            self._count(before, "lost")
            self._count(after, "gained")
            self.turned[before, after] += 1
            return True
        return self._add_boxes(then, now)

    def _add_boxes(self, then: list[Mapping[str, Any]], now: list[Mapping[str, Any]]) -> bool:
        changed, left = False, list(now)
        for prediction in now:
            self._count(_label(prediction), "now")
        for prediction in then:
            label = _label(prediction)
            self._count(label, "then")
            same = [other for other in left if _label(other) == label]
            match = max(same, key=lambda other, one=prediction: _overlap(one, other), default=None)  # type: ignore[misc]
            if match is None or _overlap(prediction, match) < SAME_OBJECT:
                self._count(label, "lost")
                changed = True
                continue
            left.remove(match)
            moved = _overlap(prediction, match) < SAME_BOX
            changed |= moved
            self._count(label, "moved" if moved else "same")
        for prediction in left:
            self._count(_label(prediction), "gained")
        return changed or bool(left)

    def _count(self, label: str, what: str) -> None:
        self.rows.setdefault(label, Counter())[what] += 1


def _predictions(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = content.get("predictions")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _label(prediction: Mapping[str, Any]) -> str:
    return str(prediction.get("label", prediction.get("class_id", "none")))


def _best(predictions: list[Mapping[str, Any]]) -> str:
    return _label(predictions[0]) if predictions else "none"


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    first, second = one.get("box"), other.get("box")
    four = 4
    if not (isinstance(first, list) and isinstance(second, list) and len(first) == len(second) == four):
        return 0.0
    return float(overlap((first[0], first[1], first[2], first[3]), (second[0], second[1], second[2], second[3])))


def _then(document: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the recorded result, or the error."""
    result = document.get("result")
    if not isinstance(result, dict):
        return {"error": str(document.get("error"))}
    return {key: result[key] for key in ("predictions", "tensors") if key in result}


def _without_numbers(content: Mapping[str, Any]) -> dict[str, Any]:
    """Without the numbers of tracks, which go on from those before the recording."""
    if "predictions" not in content:
        return dict(content)
    return {"predictions": [{k: v for k, v in one.items() if k != "track_id"} for one in _predictions(content)]}


def _memory(options: settings.Pipeline, model: Model) -> float:
    """For how many seconds results depend on inputs from before the recording."""
    if model.stateful or model.keeps_state:
        return float("inf")
    seconds = 0.0 if options.tracking is None else options.tracking.lost_after
    return float("inf") if options.smoothing is not None else seconds
