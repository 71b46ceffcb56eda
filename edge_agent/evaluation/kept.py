"""A store of kept samples as data: for judging those that a person has labelled, else all."""

from collections.abc import Sequence
from pathlib import Path

from edge_agent.errors import ConfigError
from edge_agent.evaluation.labelled import MAX_SAMPLES, Dataset, Kind, LabelledObject, LabelledSample
from edge_agent.keeping.chosen import Chosen, chosen
from edge_agent.sample_store.segment import StoreError, Walk
from edge_agent.sample_store.store import segments


def is_store(folder: Path) -> bool:
    """Whether a folder is a store of kept samples.

    Raises:
        OSError: it can't be read.
    """
    return bool(segments(folder))


def read_kept(folder: Path) -> Dataset:
    """The labelled samples of a store, without those that have been discarded.

    If objects are labelled in any of them, only those with labelled objects count.

    Raises:
        ConfigError: none is labelled, or the store can't be used.
        OSError: it can't be read.
    """
    try:
        labelled = list(chosen([folder], Walk(), labelled=True))
    except StoreError as error:
        raise ConfigError([str(error)]) from None
    if not labelled:
        raise ConfigError(
            [f"{folder}: none of these kept samples is labelled: `edge-agent samples import` adds labels"]
        )
    stated = [(one, one.stated) for one in labelled[:MAX_SAMPLES] if one.stated is not None]
    with_objects = any(label.objects is not None for _, label in stated)
    samples = [
        LabelledSample(
            _where(one),
            label=label.label,
            objects=None if label.objects is None else tuple(LabelledObject(*found) for found in label.objects),
            stored=one.stored,
        )
        for one, label in stated
        if (label.objects is not None) == with_objects
    ]
    classes = {found.label for one in samples for found in one.objects or ()} | {one.label for one in samples}
    kind: Kind = "objects" if with_objects else "labels"
    return Dataset(folder, "kept samples", kind, samples, tuple(sorted(label for label in classes if label)))


def kept_samples(folders: Sequence[Path]) -> list[LabelledSample]:
    """The samples of stores that a model could use, labelled or not, without those that have been discarded.

    Raises:
        ConfigError: a store can't be used.
    """
    try:
        usable = [one for one in chosen(folders, Walk()) if "error" not in one.entry]
    except StoreError as error:
        raise ConfigError([str(error)]) from None
    except OSError as error:
        raise ConfigError([f"{error.filename}: can't be read: {error.strerror}"]) from None
    return [LabelledSample(_where(one), stored=one.stored) for one in usable[:MAX_SAMPLES]]


def _where(one: Chosen) -> str:
    return f"{one.stored.path}: {one.stored.id}"
