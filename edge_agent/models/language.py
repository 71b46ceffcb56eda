"""Language models: their files, and the loaded model, which runs in a process of its own."""

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edge_agent import settings
from edge_agent.engines.accelerators import name_of
from edge_agent.errors import InputError, ModelError
from edge_agent.language import MAX_SESSIONS, genai_files
from edge_agent.language.genai_config import CONFIG, read_sizes
from edge_agent.language.generation import Answer, Job
from edge_agent.language.process import LanguageProcess, WorkerOptions
from edge_agent.language.request import ask
from edge_agent.modelfile import gate
from edge_agent.models import bundle
from edge_agent.models.budget import Budget
from edge_agent.settings.text import Generation, Language
from edge_agent.system.regular_file import open_regular
from edge_agent.system.units import format_size

log = logging.getLogger(__name__)

GGUF_MAGIC = b"GGUF"
# llama.cpp would load the other parts too, which lie beside it and are not hashed.
SPLIT = re.compile(r".*-[0-9]{5}-of-[0-9]{5}\.gguf")
WEIGHTS = ".safetensors"
MAX_FILES = 100
MAX_QUOTED = 60
# Measured: memory of a loaded model relative to the size of its files, and bytes of the rest of its process.
LOADED = {"genai": 1.5, "gguf": 1.0}
PROCESS_SIZE = 100_000_000


@dataclass(frozen=True, slots=True)
class Stamp:
    """What shows whether a file is still the one that was hashed.

    The process of a language model maps its files, since copies would take too much memory. If one is overwritten
    meanwhile, the answers change: so they are not returned.

    Attributes:
        path: of the file.
        inode: its device and number.
        state: its size, and when it was modified.
    """

    path: Path
    inode: tuple[int, int]
    state: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """The stamp of a file as it is now."""
        found = path.stat()
        return cls(path, (found.st_dev, found.st_ino), (found.st_size, found.st_mtime_ns))

    def is_overwritten(self) -> bool:
        """Whether the file has been changed in place. One that was replaced does not concern who has mapped it."""
        try:
            now = self.of(self.path)
        except OSError:
            return False
        return now.inode == self.inode and now.state != self.state

    def is_same(self) -> bool:
        """Whether the file is the one that was hashed."""
        try:
            return self.of(self.path) == self
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class LanguageSource:
    """A language model that has been resolved: everything that is known of it before it is loaded.

    Attributes:
        path: the folder with `genai_config.json`, or the .gguf file.
        format: one of `language.ENGINES`.
        version: as the bundle states it, else "1".
        sha256: of all files, in the order of their names.
        size: of all files, in bytes.
        golden: golden samples: prompts with the expected answers.
        evaluation: requests in the bundle, and how many of the answers must be right.
        folder: of the bundle; None: it is none.
        stamps: of the files, from before they were hashed.
    """

    path: Path
    format: Literal["genai", "gguf"]
    version: str
    sha256: str
    size: int
    golden: tuple[bundle.GoldenText, ...] = ()
    evaluation: bundle.Required | None = None
    folder: Path | None = None
    stamps: tuple[Stamp, ...] = field(default=(), compare=False)

    def cache_size(self, options: Language) -> int:
        """Bytes of cached sessions, at most."""
        if self.format == "gguf":
            return options.cache_size
        session = read_sizes(self.path).session(options.context)
        return min(options.cache_size // session, MAX_SESSIONS) * session

    def weights_size(self) -> int:
        """Bytes that its weights take in memory, about, in the layout of the runtime."""
        return round(self.size * LOADED[self.format])

    def memory(self, options: Language) -> int:
        """Bytes that it takes, about."""
        return self.weights_size() + self.cache_size(options) + PROCESS_SIZE


class LanguageModel:
    """A loaded language model. Several threads may ask it at once, each within a slot.

    Attributes:
        identity: name, version and hash, as results carry them.
        engine: what runs it.
        parallel: how many requests it answers at once.
        task: `text`.
        labels, threshold: see `Model`; there are none.
    """

    task = "text"
    labels: tuple[str, ...] = ()
    threshold: float | None = None

    def __init__(
        self, name: str, options: settings.Model, source: LanguageSource, waiting: Callable[[], None], threads: int
    ) -> None:
        self.options = options
        self.source = source
        self.identity = {"name": name, "version": source.version, "sha256": source.sha256[:12]}
        language = options.language
        self.engine = LanguageProcess(
            WorkerOptions(source.path, source.format, threads, language.context, language.cache_size), waiting
        )
        self.parallel = min(language.parallel, self.engine.capacity)
        self._slots = threading.BoundedSemaphore(self.parallel)
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._uses = self._in_use = 0
        self._check_loaded()
        self._unload_later()

    @property
    def memory(self) -> int:
        """Bytes that it takes, about."""
        return self.source.memory(self.options.language)

    def describe(self) -> str:
        """One line for the log."""
        return f"{self.source.path}: {self.engine.runtime} on {self.engine.accelerator}, {self.task}"

    def facts(self) -> dict[str, Any]:
        """What the topic `info` reports about it."""
        return self.identity | {
            "sha256": self.source.sha256,
            "engine": self.engine.runtime,
            "accelerator": self.accelerator_facts(),
            "task": self.task,
            "context": self.engine.context,
            "parallel": self.parallel,
        }

    def accelerator_facts(self) -> dict[str, Any]:
        """See `Model.accelerator_facts`."""
        return {
            "asked": [name_of(accelerator) for accelerator in self.options.accelerators],
            "in_use": self.engine.accelerator,
            "fallback": self.fallback,
            "share": None,
            "speed_up": None,
            "moves": 0,
        }

    @contextmanager
    def slot(self) -> Iterator[float]:
        """Waits until fewer than `parallel` requests are in progress; loads the model again if its process has ended.

        Yields:
            How long the loading took, in milliseconds; 0 if it was loaded.

        Raises:
            ModelError: the process can't be started.
        """
        with self._slots:
            began = time.monotonic()
            with self._lock:
                if has_loaded := self.engine.restart_if_ended():
                    self._check_loaded()
                self._uses += 1
                self._in_use += 1
            try:
                yield (time.monotonic() - began) * 1000 if has_loaded else 0.0
            finally:
                with self._lock:
                    self._in_use -= 1
                    self._unload_later()

    def _unload_later(self) -> None:
        """Starts the time after which the model is unloaded, if nobody asks it before."""
        if (keep_alive := self.options.language.keep_alive) is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(keep_alive, self._unload, [self._uses])
        self._timer.daemon = True
        self._timer.start()

    def _unload(self, uses: int) -> None:
        with self._lock:
            if uses == self._uses and not self._in_use:
                log.info("%s: unloaded: nobody has asked it", self.identity["name"])
                self.engine.end()

    def ask(self, job: Job, cancelled: Callable[[], bool]) -> Iterator[str | Answer]:
        """See `LanguageProcess.ask`; to be called within `slot`.

        Raises:
            ModelError: also: a file of the model has been overwritten.
        """
        self._check_mapped()
        for part in self.engine.ask(job, cancelled):
            if isinstance(part, Answer):
                self._check_mapped()
            yield part

    def _check_mapped(self) -> None:
        if overwritten := next((stamp.path for stamp in self.source.stamps if stamp.is_overwritten()), None):
            raise ModelError(
                f"{overwritten} has been overwritten while it serves: reload the configuration, and next time write "
                "another file and rename it"
            )

    def _check_loaded(self) -> None:
        if changed := next((stamp.path for stamp in self.source.stamps if not stamp.is_same()), None):
            self.engine.end()
            raise ModelError(f"{changed} has changed since it was checked: reload the configuration, or start again")

    @property
    def system_problem(self) -> str:
        """Why it takes no system message; empty: it does."""
        return self.engine.system_problem

    fallback = ""
    """See `Model.fallback`; empty, since language models run on the CPU only."""

    def when_moved(self, moved: Callable[[], None]) -> None:
        """Does nothing: it never changes its accelerator; see `Model.when_moved`."""

    def retire(self, successor: object = None) -> None:
        """Ends the process; see `Model.retire`."""
        del successor
        self.close()

    def close(self) -> None:
        """Ends the process."""
        if self._timer is not None:
            self._timer.cancel()
        self.engine.stop()


def find(path: Path, manifest: bundle.Manifest | None) -> LanguageSource | None:
    """The language model at a path; None if there is none.

    Args:
        path: a file or folder that is there, not an archive.
        manifest: the bundle's, where the folder is a bundle.

    Raises:
        ModelError: it can't be read, or is incomplete.
    """
    file = path / CONFIG
    if manifest is not None:
        file = path / (manifest.files.get("genai") or manifest.files.get("gguf") or "")
    elif path.is_file():
        file = path
    try:
        if file.name == CONFIG and file.is_file():
            found: Literal["genai", "gguf"] = "genai"
            gate.check_folder(file.parent)
            genai_files.check(file.parent)
            place, files = file.parent, sorted(part for part in file.parent.iterdir() if part.is_file())
        elif file.is_file() and _begins_with(file, GGUF_MAGIC):
            if SPLIT.fullmatch(file.name):
                raise ModelError(f"{file}: a part of a model: join the parts with `llama-gguf-split --merge`")
            found, place, files = "gguf", file, [file]
        elif manifest is None and (path.suffix == WEIGHTS or any(path.glob(f"*{WEIGHTS}"))):
            raise ModelError(
                f"{path}: weights for PyTorch ({WEIGHTS}), which nothing here runs: make an ONNX model of them with "
                "`python -m onnxruntime_genai.models.builder`, or take the model as .gguf"
            )
        else:
            return None
        if len(files) > MAX_FILES:
            raise ModelError(f"{place}: {len(files)} files: a language model has at most {MAX_FILES}")
        digest = hashlib.sha256()
        stamps = tuple(Stamp.of(part) for part in files)
        for part in files:
            with open_regular(part) as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        size = sum(stamp.state[0] for stamp in stamps)
    except OSError as error:
        raise ModelError(f"{error.filename or file}: can't be read: {error.strerror}") from None
    version, golden = (manifest.version, manifest.golden_text) if manifest else ("1", ())
    evaluation, folder = (manifest.evaluation, path) if manifest else (None, None)
    return LanguageSource(place, found, version, digest.hexdigest(), size, golden, evaluation, folder, stamps)


def load(
    name: str,
    options: settings.Model,
    source: LanguageSource,
    waiting: Callable[[], None],
    threads: int,
    budget: Budget,
) -> LanguageModel:
    """Loads a language model; since that happens in a process of its own, there is no self-test before.

    Raises:
        ModelError: it does not fit in the memory, or can't be loaded; the message has the reason.
        MissingExtraError: the runtime is not installed.
    """
    if "cpu" not in options.accelerators:
        raise ModelError(f"{source.path}: language models run on the cpu: add it to accelerators")
    try:
        parts = {
            "weights": source.weights_size(),
            "cache": source.cache_size(options.language),
            "its process": PROCESS_SIZE,
        }
        budget.take(sum(parts.values()), ", ".join(f"{name} {format_size(size)}" for name, size in parts.items()))
        model = LanguageModel(name, options, source, waiting, threads)
    except ModelError as error:
        raise ModelError(f"{source.path}: {error}") from error
    try:
        for number, golden in enumerate(source.golden, 1):
            waiting()
            _check(model, golden, number)
    except BaseException as error:
        model.close()
        if isinstance(error, ModelError | InputError):
            raise ModelError(f"{source.path}: {error}") from error
        raise
    return model


def _check(model: LanguageModel, golden: bundle.GoldenText, number: int) -> None:
    """Runs a golden sample.

    Raises:
        ModelError: the answer differs from the expected one.
    """
    request = ask(golden.prompt, Generation(json_schema=golden.json_schema))
    with model.slot():
        *_, answer = model.ask(request.job(golden.system, age=0.0), lambda: False)
    found = answer.text if isinstance(answer, Answer) else answer
    if found != golden.text:
        raise ModelError(
            f"golden sample {number} comes out wrong with {model.engine.runtime}: "
            f"expected {golden.text[:MAX_QUOTED]!r}, found {found[:MAX_QUOTED]!r}"
        )


def _begins_with(path: Path, magic: bytes) -> bool:
    with open_regular(path) as file:
        return file.read(len(magic)) == magic
