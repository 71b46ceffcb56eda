"""Finds the settings of a model from labelled pictures."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.evaluation.labelled import Dataset, LabelledSample
from edge_agent.fitting.combinations import Combination, class_count, combinations
from edge_agent.fitting.judge import certainty, of_class, of_objects
from edge_agent.fitting.names import Naming, namings
from edge_agent.fitting.race import DOUBT, Standing, race
from edge_agent.fitting.runner import Answer, Runner
from edge_agent.models.io_spec import CLASSIFICATION, derive
from edge_agent.preprocess.decoding import decode_picture
from edge_agent.preprocess.files import read_file
from edge_agent.samples import Sample
from edge_agent.settings.models import Output

if TYPE_CHECKING:
    from edge_agent.models.io_spec import Stated
    from edge_agent.models.resolve import ModelSource

LEAST_SAMPLES = 12
# Pictures that are tried; if these do not decide, all up to the most.
FIRST_SAMPLES, MOST_SAMPLES = 500, 5000
# The setting whose possibilities differ by degree. Where they can't be distinguished, the usual one is as good.
BY_DEGREE = "resize"
# Of the best combination: less means that none of them is right.
LEAST_ACCURACY = 0.3
# Of the samples: a model that always says this label would be right as often.
MOST_OF_ONE_LABEL = 0.8
# Rivals that a message names.
SHOWN = 3
# Of its size: how far a picture without a label is moved.
MOVED = 25


class Candidate(NamedTuple):
    """One possibility for all that has to be right, by the places of its parts in the order of likelihood.

    Attributes:
        group: of the combinations that differ by degree only.
        naming: what labels mean.
    """

    group: int
    naming: int


@dataclass(frozen=True, slots=True)
class Fit:
    """What was found.

    Attributes:
        standings: of all candidates, the best one first, each with what it chooses in words ("" where nothing is open).
        fits: the same for how pictures are fitted, with the best candidate.
        chosen: what a bundle states; None: nothing is decided.
        reason: why nothing is decided.
        note: about how pictures are fitted; "" where that is decided.
    """

    standings: Sequence[tuple[str, Standing[Candidate]]]
    fits: Sequence[tuple[str, Standing[int]]]
    chosen: "Stated | None"
    reason: str
    note: str


def fit(source: "ModelSource", data: Dataset) -> Fit:
    """Tries all combinations of what is open on labelled pictures.

    How a picture is fitted to the input changes results by degree, other settings change what the model sees. So these
    are decided first, each possibility judged by the mean over all ways to fit a picture.

    Args:
        source: the model, resolved.
        data: pictures with a label or objects each.

    Raises:
        ModelError: it is no model that can be fitted, or the labels don't fit it.
        InputError: a picture can't be used.
    """
    tried = combinations(source.file, source.stated)
    samples = _mixed(data)[:MOST_SAMPLES]
    _check(data, tried[0], samples)
    known = _known(source, tried[0])
    names = namings(_labels(samples), data.classes, known, class_count(source.file, tried[0].spec))
    runner = Runner(source, tried)
    try:
        contest = _Contest(runner, tried, samples, names)
        standings, fits = contest.run(min(FIRST_SAMPLES, len(samples)))
        if len(samples) > FIRST_SAMPLES and any(one.needed for one in _rivals(standings)):
            standings, fits = contest.run(len(samples))
    finally:
        runner.close()
    reason = _undecided(standings, fits, contest.choices)
    best = standings[0].name
    ways = contest.groups[best.group]
    place, note = _way(fits, list(ways))
    stated = None if reason else _stated(source, list(ways.values())[place], names[best.naming], runner.output, known)
    words = {one: _words(choice, choice) for one, choice in contest.choices.items()}
    table = [(words[one.name], one) for one in standings]
    return Fit(table, [(list(ways)[one.name], one) for one in fits], stated, reason, note)


class _Contest:
    """All candidates on all samples.

    Args:
        runner: runs combinations.
        tried: the combinations, the most likely first.
        samples: labelled pictures.
        names: what labels may mean.

    Attributes:
        groups: combinations that differ by degree only, by their way to fit a picture, the usual one first.
        choices: what each candidate chooses.
    """

    def __init__(
        self, runner: Runner, tried: Sequence[Combination], samples: Sequence[LabelledSample], names: Sequence[Naming]
    ) -> None:
        self._runner, self._samples, self._names = runner, samples, names
        groups: dict[tuple[tuple[str, str], ...], dict[str, Combination]] = defaultdict(dict)
        for one in tried:
            hard = tuple(sorted((key, word) for key, word in one.choice.items() if key != BY_DEGREE))
            groups[hard][one.choice.get(BY_DEGREE, "")] = one
        self.groups = list(groups.values())
        candidates = [Candidate(group, name) for name in range(len(names)) for group in range(len(self.groups))]
        self.choices = {one: self._choice(one) for one in candidates}
        self._results: dict[tuple[int, int, int], tuple[float, float]] = {}

    def run(self, count: int) -> tuple[list[Standing[Candidate]], list[Standing[int]]]:
        """The standings of candidates on the first `count` samples, and of the ways to fit pictures with the best."""
        everyone = sorted(self.choices, key=sum)
        standings = race(everyone, count, partial(self._judge, ways=None))
        fits = self._fits(standings[0].name, count)
        # Ways that are worse beyond doubt would only blur the comparison of the others.
        labels = list(self.groups[standings[0].name.group])
        ways = {labels[one.name] for one in fits if one.chance > DOUBT}
        finalists = [one for one in everyone if one in {two.name for two in standings if two.samples == count}]
        final = race(finalists, count, partial(self._judge, ways=ways))
        if final[0].name != standings[0].name:
            fits = self._fits(final[0].name, count)
        return [*final, *(one for one in standings if one.samples < count)], fits

    def _fits(self, best: Candidate, count: int) -> list[Standing[int]]:
        ways = list(self.groups[best.group].values())

        def judge(number: int, places: Sequence[int]) -> Iterator[tuple[float, float]]:
            yield from self._ask(number, [ways[place] for place in places], best.naming)

        return race(range(len(ways)), count, judge)

    def _judge(
        self, number: int, candidates: Sequence[Candidate], *, ways: set[str] | None
    ) -> Iterator[tuple[float, float]]:
        """The means over all ways to fit a picture, or over some."""
        for one in candidates:
            group = self.groups[one.group]
            chosen = [group[way] for way in group if ways is None or way in ways] or list(group.values())
            score, accuracy = np.mean(self._ask(number, chosen, one.naming), axis=0)
            yield float(score), float(accuracy)

    def _ask(self, number: int, combinations: Sequence[Combination], naming: int) -> list[tuple[float, float]]:
        """Score and accuracy of combinations on a sample; what is known is not run again."""
        sample = self._samples[number]
        new = [one for one in combinations if (number, id(one), naming) not in self._results]
        try:
            answers = list(self._runner.ask(sample.read(), new)) if new else []
        except EdgeAgentError as error:
            raise type(error)(f"{sample.where}: {error}") from None
        for one, answer in zip(new, answers, strict=True):
            for place, name in enumerate(self._names):
                self._results[number, id(one), place] = _result(answer, sample, name)
        return [self._results[number, id(one), naming] for one in combinations]

    def _choice(self, one: Candidate) -> dict[str, str]:
        combination = next(iter(self.groups[one.group].values()))
        choice = {key: word for key, word in combination.choice.items() if key != BY_DEGREE}
        return choice | ({"labels": self._names[one.naming].words or "as they are"} if len(self._names) > 1 else {})


def _mixed(data: Dataset) -> list[LabelledSample]:
    """The samples, their labels in turns."""
    piles: dict[str, list[LabelledSample]] = defaultdict(list)
    for sample in data.samples:
        piles[min(_labels([sample]), default="")].append(sample)
    turns = [(number, label, sample) for label, pile in piles.items() for number, sample in enumerate(pile)]
    return [sample for _, _, sample in sorted(turns, key=lambda turn: turn[:2])]


def _labels(samples: Sequence[LabelledSample]) -> set[str]:
    return {
        label
        for sample in samples
        for label in ([sample.label] if sample.objects is None else [one.label for one in sample.objects])
        if label is not None
    }


def _check(data: Dataset, first: Combination, samples: Sequence[LabelledSample]) -> None:
    expected = "objects" if first.spec.task == "detection" else "labels"
    if data.kind != expected:
        raise ModelError(f"{data.path}: expected pictures with {expected}, for {first.spec.task}, found {data.kind}")
    if len(samples) < LEAST_SAMPLES:
        raise ModelError(f"{data.path}: expected at least {LEAST_SAMPLES} pictures, found {len(samples)}")
    counts = Counter(sample.label for sample in samples)
    if expected == "labels" and (most := counts.most_common(1)[0])[1] > MOST_OF_ONE_LABEL * len(samples):
        raise ModelError(
            f"{data.path}: {most[1]} of {len(samples)} pictures are of one class, {most[0]}, which a model that always "
            "says this would get right: add pictures of other classes"
        )
    if expected == "objects" and not any(sample.objects for sample in samples):
        raise ModelError(f"{data.path}: there is no object in its {len(samples)} pictures")


def _known(source: "ModelSource", first: Combination) -> tuple[str, ...] | None:
    """The names of the model's classes, as the user, the file or its family states them."""
    if source.stated.labels is not None:
        return source.stated.labels
    if source.file.labels is not None:
        return source.file.labels
    try:
        return derive(source.file, replace(first.stated, without_labels=False)).labels
    except ModelError:
        return None


def _result(answer: Answer, sample: LabelledSample, naming: Naming) -> tuple[float, float]:
    if sample.objects is not None:
        width, height = answer.size
        objects = [one.scaled(width, height) if sample.relative else one for one in sample.objects]
        return of_objects(answer.predictions, objects, naming.classes)
    right = naming.classes[sample.label or ""]
    confidences = answer.confidences
    if confidences is None:
        confidences = np.zeros(max([right, *(one.class_id or 0 for one in answer.predictions)]) + 1, np.float32)
        for one in answer.predictions:
            confidences[one.class_id or 0] = 1.0 if one.confidence is None else one.confidence
    return of_class(confidences, right)


def _rivals(standings: Sequence[Standing[Candidate]]) -> list[Standing[Candidate]]:
    """Those that may be as good as the best one; those that do exactly the same last."""
    best, *others = standings
    near = [one for one in others if one.samples == best.samples and (one.same or one.chance > DOUBT)]
    return sorted(near, key=lambda one: one.same)


def _undecided(
    standings: Sequence[Standing[Candidate]],
    fits: Sequence[Standing[int]],
    choices: dict[Candidate, dict[str, str]],
) -> str:
    """Why no candidate can be chosen; "" if one is better than all others beyond doubt."""
    best, near = standings[0], _rivals(standings)
    if (accuracy := fits[0].accuracy) < LEAST_ACCURACY:
        reason = f"no combination is right: the best one is on {accuracy:.0%} of {best.samples} pictures"
        return f"{reason}: check the labels, and that the model is one for such pictures"
    if not near:
        return ""
    keys = {key for one in near for key in _differing(choices[best.name], choices[one.name])}
    names = " and ".join(f"({_words(choices[one.name], keys)})" for one in (best, *near[:SHOWN]))
    more = f" and {len(near) - SHOWN} others" if len(near) > SHOWN else ""
    needed = max(one.needed for one in near)
    enough = f": about {needed} would do" if needed > best.samples else ""
    return f"{names}{more} can't be distinguished on {best.samples} pictures{enough}"


def _way(fits: Sequence[Standing[int]], ways: Sequence[str]) -> tuple[int, str]:
    """How pictures are fitted: as is usual, unless another way is better beyond doubt."""
    best = fits[0].name
    usual = next(one for one in fits if one.name == 0)
    if best == 0 or (usual.chance <= DOUBT and not usual.same):
        return best, ""
    return 0, f"resize: {ways[0]}, which is usual; {ways[best]} is not better beyond doubt"


def _differing(one: dict[str, str], other: dict[str, str]) -> set[str]:
    return {key for key in one if one[key] != other[key]}


def _words(choice: Mapping[str, str], keys: Collection[str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in choice.items() if key in keys)


def _stated(
    source: "ModelSource", chosen: Combination, naming: Naming, output: Output, known: Sequence[str] | None
) -> "Stated":
    """What a bundle states for a choice."""
    stated = chosen.stated
    if chosen.output_open:
        stated = replace(stated, output=output)
    if naming.labels is not None:
        return replace(stated, labels=naming.labels, labels_from="the data", without_labels=False)
    own = source.stated
    if known is not None:
        return replace(stated, labels=own.labels, labels_from=own.labels_from, without_labels=own.without_labels)
    return stated


def rank(source: "ModelSource", pictures: Sequence[Path]) -> list[tuple[str, Standing[int]]]:
    """Ranks combinations by how sure of themselves they make a classifier: this hints, and never decides.

    Args:
        source: the model, resolved.
        pictures: without labels.

    Raises:
        ModelError: it is no classifier of pictures.
        InputError: a picture can't be used.
    """
    tried = combinations(source.file, source.stated)
    if tried[0].spec.task != CLASSIFICATION:
        raise ModelError("without labels only classifiers can be ranked: label some of the pictures")
    runner = Runner(source, tried)

    def judge(number: int, places: Sequence[int]) -> Iterator[tuple[float, float]]:
        asked = [tried[place] for place in places]
        views = [list(runner.ask(view, asked)) for view in _views(read_file(pictures[number]))]
        for first, *others in zip(*views, strict=True):
            confidences = [one.confidences for one in (first, *others) if one.confidences is not None]
            score = certainty(confidences[0], confidences[1:]) if confidences else 0.0
            yield score, score

    try:
        standings = race(range(len(tried)), min(len(pictures), FIRST_SAMPLES), judge)
    finally:
        runner.close()
    return [(_words(tried[one.name].choice, tried[one.name].choice), one) for one in standings]


def _views(sample: Sample) -> Iterator[Sample]:
    """A picture, mirrored, and moved by a part of its size."""
    yield sample
    if isinstance(sample.data, bytes):
        pixels = decode_picture(sample.data).pixels
        across, down = (max(1, side // MOVED) for side in (pixels.shape[1], pixels.shape[0]))
        yield replace(sample, data=np.ascontiguousarray(pixels[:, ::-1]))
        yield replace(sample, data=np.ascontiguousarray(pixels[down:, across:]))
