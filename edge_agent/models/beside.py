"""What lies beside a model file fills in what is missing, and nothing else."""

from dataclasses import replace

from edge_agent.errors import ModelError
from edge_agent.modelfile.beside import Beside, look
from edge_agent.modelfile.facts import ModelFile
from edge_agent.modelfile.normalization import Channels
from edge_agent.models.io_spec import CLASSIFICATION, Stated, UnclearError, derive
from edge_agent.settings.base import Normalize

# Facts that the file of an Ultralytics export would carry itself.
_ULTRALYTICS = {"stride", "task", "names"}


def completed(file: ModelFile, stated: Stated) -> tuple[ModelFile, Stated]:
    """The model file and what is stated of it, with the facts that are missing taken from the files beside it.

    What does not fit the model's own numbers is left out, and a note says so.

    Args:
        file: the model file, which is in no bundle.
        stated: by the configuration.
    """
    beside = look(file.path)
    notes = list(beside.notes)
    file = _with_facts(file, stated, beside, notes)
    stated = _with_labels(file, stated, beside, notes)
    stated = _with_pixels(file, stated, beside, notes)
    return file, replace(stated, notes=tuple(notes))


def _outcome(file: ModelFile, stated: Stated) -> tuple[str, frozenset[str]]:
    """The decoder family, and the keys of what is missing.

    Raises:
        ModelError: what is stated does not fit the model, or it is no such model.
    """
    try:
        return derive(file, stated).family, frozenset()
    except UnclearError as error:
        return error.family, frozenset(error.missing)


def _fits(file: ModelFile, stated: Stated) -> bool:
    try:
        _outcome(file, stated)
    except ModelError:
        return False
    return True


def _with_facts(file: ModelFile, stated: Stated, beside: Beside, notes: list[str]) -> ModelFile:
    """The same file, with the facts of an Ultralytics export that lie beside it."""
    facts = beside.found.facts
    if not facts or _ULTRALYTICS & file.metadata.keys():
        return file
    where = beside.sources["facts"]
    described = replace(file, metadata={**facts, **file.metadata})
    if _fits(described, stated) or not _fits(file, stated):
        return described
    notes.append(f"{where}: not used: it does not fit the model's outputs")
    return file


def _with_labels(file: ModelFile, stated: Stated, beside: Beside, notes: list[str]) -> Stated:
    for where, labels in beside.labels:
        try:
            _, missing = _outcome(file, stated)
        except ModelError:
            return stated
        if not missing & {"labels", "decoder"}:
            return stated
        attempt = replace(stated, labels=labels, labels_from=where)
        try:
            _, still = _outcome(file, attempt)
        except ModelError as error:
            notes.append(f"{where}: not used: {error}")
            continue
        if still < missing:
            return attempt
    return stated


def _with_pixels(file: ModelFile, stated: Stated, beside: Beside, notes: list[str]) -> Stated:
    """What is stated, with the facts of how pixels become the input."""
    try:
        family, missing = _outcome(file, stated)
    except ModelError:
        return stated
    found, pixels = beside.found, stated.preprocess
    filled: dict[str, object] = {}
    # The families of detectors and the like have a way of their own to fit a picture.
    if family == CLASSIFICATION:
        if pixels.color is None and found.color:
            filled["color"] = found.color
        if pixels.resize is None and pixels.crop is None and found.resize:
            filled |= {"resize": found.resize, "crop": found.crop}
    if "preprocess.normalize" in missing and found.normalization:
        filled["normalize"] = _normalize(*found.normalization, pixels.color or filled.get("color"))
    if not filled:
        return stated
    sources = {key: beside.sources["normalization" if key == "normalize" else key] for key in filled if key != "crop"}
    attempt = replace(stated, preprocess=pixels.model_copy(update=filled), sources=sources)
    if _fits(file, attempt):
        return attempt
    notes += [f"{where}: not used: it does not fit the model's input" for where in dict.fromkeys(sources.values())]
    return stated


def _normalize(mean: Channels, std: Channels, color: object) -> Normalize:
    if color == "bgr":
        mean, std = mean[::-1], std[::-1]
    return Normalize(mean=mean if len(mean) > 1 else mean[0], std=std if len(std) > 1 else std[0])
