"""What is open for a model of pictures, and all combinations of that, the most likely first."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge_agent.decoders import families
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import ModelFile
from edge_agent.models.io_spec import CLASSIFICATION, FITTED_TASKS, IOSpec, Stated, UnclearError, derive
from edge_agent.models.picture_input import EVALUATED_CROP, MAX_LEVEL
from edge_agent.preprocess.image import Preprocess
from edge_agent.settings.base import Normalize

# What else is in use, besides the presets: https://github.com/BVLC/caffe/wiki/Model-Zoo (colours BGR), and
# https://github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB.
CAFFE = Normalize(mean=(103.939, 116.779, 123.68), std=1.0)
HALVES = Normalize(mean=127.0, std=128.0)
# Ranges of values are the same if no pixel is farther apart than by as many levels.
SAME_LEVEL = 2.0
SIZES = ((224, 224), (320, 320), (416, 416), (640, 640))


@dataclass(frozen=True, slots=True)
class Combination:
    """One combination of settings.

    Attributes:
        choice: what is chosen for each setting that is open, in words.
        stated: what a configuration would state.
        spec: what follows from it.
        output_open: whether it is not known what the scores of a classifier are; the values that come out will tell.
    """

    choice: Mapping[str, str]
    stated: Stated
    spec: IOSpec = field(repr=False)
    output_open: bool = False


def combinations(file: ModelFile, stated: Stated) -> list[Combination]:
    """All combinations of what the file and the user leave open.

    A setting is open if it is missing, or if only custom or the family speaks for it: colours, how a picture is fitted,
    the range of values. What the user, the metadata or the quantised input state is not.

    Args:
        file: the model file.
        stated: by the user and the bundle; labels are left out.

    Raises:
        ModelError: it is no model of pictures that classifies or detects, or nothing fits it.
    """
    bare = replace(stated, labels=None, labels_from="", without_labels=True)
    found: dict[tuple[Any, ...], Combination] = {}
    for decoder in _decoders(file, bare):
        for part in _of_decoder(file, replace(bare, decoder=decoder or bare.decoder)):
            choice = {"decoder": part.spec.family, **part.choice}
            found.setdefault((part.spec.family, repr(part.spec.preprocess)), replace(part, choice=choice))
    if not found:
        raise ModelError("no combination of settings fits the file: `inspect` shows what is known of it")
    different = list(found.values())
    kept = [one for place, one in enumerate(different) if not any(_alike(one, two) for two in different[:place])]
    many = {key for one in kept for key in one.choice if len({two.choice[key] for two in kept}) > 1}
    return [replace(one, choice={key: one.choice[key] for key in one.choice if key in many}) for one in kept]


def _alike(one: Combination, two: Combination) -> bool:
    """Whether two combinations give the model the same picture but for a level or so."""
    first, second = one.spec.preprocess, two.spec.preprocess
    assert isinstance(first, Preprocess), "models of pictures alone are fitted"  # noqa: S101 - for the type checker
    assert isinstance(second, Preprocess), "models of pictures alone are fitted"  # noqa: S101 - for the type checker
    if one.spec.family != two.spec.family or replace(first, mean=second.mean, std=second.std) != second:
        return False
    levels = np.array([0.0, MAX_LEVEL])[:, None]
    ends = [(levels - np.array(how.mean)) / np.array(how.std) for how in (first, second)]
    return bool((np.abs(ends[0] - ends[1]) * np.min(np.array(first.std)) <= SAME_LEVEL).all())


def _decoders(file: ModelFile, stated: Stated) -> Sequence[str | None]:
    if stated.decoder is not None:
        return [stated.decoder]
    found = [recognition.family for recognition in families.fitting(file)]
    return found if len(found) > 1 else [None]


def _of_decoder(file: ModelFile, stated: Stated) -> list[Combination]:
    usual, missing = _usual(file, stated)
    given = stated.preprocess
    how = usual.preprocess
    if not isinstance(how, Preprocess):
        raise ModelError(
            "only models of pictures can be fitted; of readings and sound, state `input` (rate, channels, normalize, "
            "features) as they were trained, and see with `edge-agent evaluate` how right that is"
        )
    if usual.task not in FITTED_TASKS:
        raise ModelError(f"only models that classify or detect in pictures can be fitted, not those for {usual.task}")
    gray = how.color == "gray"
    published = any(
        fact.startswith("normalize:") and fact.endswith("as the family was published") for fact in usual.evidence
    )
    ranged = "preprocess.normalize" in missing
    options = {
        "layout": ["nhwc", "nchw"] if "preprocess.layout" in missing else [None],
        "size": [given.size] if "preprocess.size" not in missing else list(SIZES),
        "normalize": _ranges(usual, missing=ranged, gray=gray) if ranged or published else [given.normalize],
        "color": [given.color] if gray or given.color else ([how.color, "bgr" if how.color == "rgb" else "rgb"]),
        "resize": [(given.resize, given.crop)] if given.resize or given.crop else _fits(usual, how),
    }
    combined = []
    for values in itertools.product(*options.values()):
        one = dict(zip(options, values, strict=True))
        resize, crop = one.pop("resize")
        update = {key: value for key, value in (one | {"resize": resize, "crop": crop}).items() if value is not None}
        tried = replace(stated, preprocess=given.model_copy(update=update))
        if "output" in missing:
            tried = replace(tried, output="logits")
        try:
            spec = derive(file, tried)
        except ModelError:
            continue  # such as ImageNet's means for one channel
        combined.append(Combination(_in_words(update, spec), tried, spec, "output" in missing))
    return combined


def _usual(file: ModelFile, stated: Stated) -> tuple[IOSpec, set[str]]:
    """What follows where the first possibility is taken for all that is missing, and what is missing."""
    missing: set[str] = set()
    for _ in range(3):  # what is stated may show that more is missing
        try:
            return derive(file, stated), missing
        except UnclearError as error:
            missing |= set(error.missing)
            if hopeless := set(error.missing) - {"output", "decoder", *(f"preprocess.{key}" for key in _FOUND)}:
                raise ModelError("; ".join(error.missing[key] for key in sorted(hopeless))) from None
            update = {key: value for key, value in _FOUND.items() if f"preprocess.{key}" in error.missing}
            stated = replace(
                stated,
                preprocess=stated.preprocess.model_copy(update=update),
                output=stated.output or ("logits" if "output" in error.missing else None),
                decoder=stated.decoder or (error.family if "decoder" in error.missing else None),
            )
    raise ModelError("no combination of settings fits the file: `inspect` shows what is known of it")


_FOUND: Mapping[str, Any] = {"normalize": "raw", "layout": "nhwc", "size": SIZES[0]}


def _ranges(usual: IOSpec, *, missing: bool, gray: bool) -> list[Any]:
    """Ranges of values to be tried; None: as the family was published."""
    published = [] if missing else [None]
    if gray:
        return [*published, "unit", "signed", "raw"]
    if usual.task == CLASSIFICATION:
        return [*published, "imagenet", "signed", "unit", "raw", CAFFE]
    return [*published, "unit", "raw", "imagenet", "signed", HALVES]


def _fits(usual: IOSpec, how: Preprocess) -> list[tuple[str | None, float | None]]:
    first: tuple[str | None, float | None] = (None, None)
    if usual.task != CLASSIFICATION:
        return [first, *((one, None) for one in ("letterbox", "stretch") if one != how.resize)]
    cropped = [("center_crop", EVALUATED_CROP), ("center_crop", None)]
    rest = [one for one in (("stretch", None), *cropped) if (one[0], one[1] or 1.0) != (how.resize, how.crop)]
    return [first, *rest]


def _in_words(update: Mapping[str, Any], spec: IOSpec) -> dict[str, str]:
    how = spec.preprocess
    assert isinstance(how, Preprocess), "models of pictures alone are fitted"  # noqa: S101 - for the type checker
    normalize = update.get("normalize")
    if isinstance(normalize, Normalize):
        normalize = f"mean {_listed(normalize.mean)}, std {_listed(normalize.std)}"
    crop = f" {how.crop:g}" if how.resize == "center_crop" and how.crop < 1 else ""
    return {
        "normalize": normalize or "as the family was published",
        "color": how.color,
        "resize": f"{how.resize}{crop}",
        "layout": how.layout,
        "size": f"{how.width}x{how.height}",
    }


def _listed(value: float | tuple[float, ...]) -> str:
    return " ".join(f"{one:g}" for one in (value if isinstance(value, tuple) else (value,)))


def class_count(file: ModelFile, spec: IOSpec) -> int | None:
    """Number of classes of a model, as far as its outputs tell.

    Args:
        file: the model file.
        spec: of it, without labels.
    """
    if spec.family == CLASSIFICATION:
        shape = file.outputs[0].shape
        return next((size for size in (shape[1:] if len(shape) > 1 else shape) if size > 1), 1)
    return None
