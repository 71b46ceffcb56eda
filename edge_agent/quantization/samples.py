"""The samples by which a model is calibrated and compared: pictures, or windows of sound and readings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from edge_agent.errors import EdgeAgentError
from edge_agent.evaluation.kept import is_store, kept_samples
from edge_agent.evaluation.labelled import PICTURES, SOUNDS, files_below
from edge_agent.preprocess.files import read_file
from edge_agent.preprocess.image import Preprocess
from edge_agent.samples import Sample
from edge_agent.sources.images import files
from edge_agent.sources.recordings import of_numbers
from edge_agent.timeseries.numbers import SeriesPreprocess

RECORDINGS = (*SOUNDS, ".csv", ".json")
# Windows of all recordings: they are held in memory.
MOST_WINDOWS = 1000


@dataclass(frozen=True, slots=True)
class GivenSample:
    """One sample.

    Attributes:
        path: of the file that it is from, for messages.
        read: gives it, as a source would.
    """

    path: Path
    read: Callable[[], Sample]


def samples_of(patterns: Sequence[str], preprocess: Preprocess | SeriesPreprocess) -> list[GivenSample]:
    """The samples in some files, in the order of their names.

    Args:
        patterns: folders, with what is in folders within, files, patterns, or stores of kept samples, labelled or not.
        preprocess: of the model: for which kind of sample it takes.

    Raises:
        EdgeAgentError: a recording or a store can't be used.
    """
    stores = [folder for pattern in patterns if (folder := Path(pattern)).is_dir() and is_store(folder)]
    kept = [GivenSample(Path(one.where), one.read) for one in kept_samples(stores)]
    endings = PICTURES if isinstance(preprocess, Preprocess) else RECORDINGS
    paths = [path for pattern in patterns if Path(pattern) not in stores for path in _files(pattern, endings)]
    if isinstance(preprocess, Preprocess):
        return [*kept, *(GivenSample(path, partial(read_file, path)) for path in paths)]
    # Of each recording as many: neighbours are alike.
    most = max(1, MOST_WINDOWS // max(1, len(paths)))
    found = (GivenSample(path, partial(_given, one)) for path in paths for one in _windows(path, preprocess, most))
    return [*kept[:MOST_WINDOWS], *islice(found, MOST_WINDOWS)]


def _files(pattern: str, endings: Sequence[str]) -> Sequence[Path]:
    folder = Path(pattern)
    return list(files_below(folder, endings)) if folder.is_dir() else files(pattern, endings)


def _windows(path: Path, preprocess: SeriesPreprocess, most: int) -> Iterator[Sample]:
    for sample in islice(of_numbers(path, preprocess, None, lambda _: None).samples, most):
        if isinstance(sample.data, EdgeAgentError):
            raise EdgeAgentError(str(sample.data) if str(path) in str(sample.data) else f"{path}: {sample.data}")
        yield sample


def _given(sample: Sample) -> Sample:
    return sample
