"""A model that follows a channel: how its versions are tried, compared, put into service and watched."""

from collections.abc import Callable, Sequence
from typing import Any

from edge_agent.errors import ConfigError, ModelError, UpdateError
from edge_agent.models.language import LanguageModel
from edge_agent.models.model import Model
from edge_agent.models.variants import wanted
from edge_agent.settings.models import Accelerator
from edge_agent.settings.update import Update
from edge_agent.update import probation
from edge_agent.update.host import Host, RefusedError, Served, UndecidedError, inference_ms, resident_mb, work_of
from edge_agent.update.releases import Release, of_machine
from edge_agent.update.shadow import run_beside
from edge_agent.update.store import Store
from edge_agent.update.subject import Progress


class ModelTrial:
    """A version of a model that is loaded, and does not serve yet."""

    def __init__(self, model: Served) -> None:
        self.model = model
        self.facts: dict[str, Any] = {}

    def discard(self) -> None:
        """Unloads it."""
        self.model.retire()


class ModelUpdate:
    """A model that follows a channel; see `Subject`.

    Args:
        name: of the model.
        channel: that it follows.
        store: its versions.
        accelerators: that the configuration asks for.
        options: of updates.
        host: the agent.
    """

    def __init__(
        self,
        name: str,
        channel: str,
        store: Store,
        accelerators: Sequence[Accelerator],
        options: Update,
        host: Host,
    ) -> None:
        self.name, self.channel, self.store = name, channel, store
        self._accelerators = accelerators
        self._options = options
        self._host = host

    def check_possible(self) -> None:
        """Only a model that a pipeline uses is updated."""
        if self._host.serving(self.name) is None:
            raise UpdateError(f"{self.name}: no pipeline uses it: it is not updated")

    def usable(self, releases: Sequence[Release]) -> Sequence[Release]:
        """Of each version the archive for this machine's accelerators."""
        return of_machine(releases, wanted(self._accelerators))

    def work_ms(self) -> float:
        """Mean duration of an inference of the active version."""
        return inference_ms(work_of(self._host.serving(self.name)))

    def test(self, release: Release, progress: Progress) -> ModelTrial:
        """Golden samples, labelled data, and a run beside the active version."""
        memory = resident_mb()
        trial = ModelTrial(self._load(release, progress))
        memory = resident_mb() - memory
        try:
            self._evaluate(trial.model, progress)
            if isinstance(trial.model, LanguageModel):
                trial.facts = {"trial": self._compare(trial.model, progress)}
                return trial
            shown = self._run_shadow(release, trial.model, progress)
        except (RefusedError, UndecidedError):
            trial.discard()
            raise
        trial.facts = {"shadow": shown and shown | {"memory_mb": round(memory, 1)}}
        return trial

    def _compare(self, model: LanguageModel, progress: Progress) -> dict[str, Any]:
        from edge_agent.update.language_trial import compare

        active = self._host.serving(self.name)
        if not isinstance(active, LanguageModel):
            raise UpdateError(f"{self.name}: no pipeline uses it any more")
        return compare(model, active, self._options.shadow.max_slowdown, progress.check_stop)

    def _load(self, release: Release, progress: Progress) -> Served:
        """Loads the new version, which must have the same task as the active one."""
        try:
            model = self._host.load_version(self.name, self.store.archive(release.key), progress.check_stop)
        except ConfigError as error:
            raise RefusedError("; ".join(error.problems)) from None
        active = self._host.serving(self.name)
        if active is None:
            raise UpdateError(f"{self.name}: no pipeline uses it any more")
        if model is None:
            raise UpdateError(f"{self.name}: no pipeline uses it any more")
        if model.task != active.task:
            model.retire()
            raise RefusedError(f"its task is {model.task}, that of the active version {active.task}")
        return model

    def _evaluate(self, model: Served, progress: Progress) -> None:
        """Has the new version prove how right it is, on the labelled data in its bundle, if it has some."""
        if model.source.evaluation is None:
            return
        from edge_agent.evaluation import packed

        try:
            if isinstance(model, LanguageModel):
                found = packed.check_language(model, model.source.evaluation)
            else:
                found = packed.check(model, model.source.evaluation, progress.check_stop)
        except ModelError as error:
            raise RefusedError(str(error)) from None
        if refusal := packed.refusal(found):
            raise RefusedError(refusal)

    def _run_shadow(self, release: Release, model: Model, progress: Progress) -> dict[str, Any] | None:
        options, max_error_rate = self._options.shadow, self._options.probation.max_error_rate
        if not options.samples:
            return None
        progress.step("shadow", release.name)
        return run_beside(self._host, self.name, model, options, max_error_rate, progress.check_stop)

    def adopt(self, trial: Any, progress: Progress) -> None:
        """From the next sample on."""
        self._put_into_service(trial.model, progress)

    def _put_into_service(self, model: Served | None, progress: Progress) -> None:
        done = self._host.adopt(self.name, model)
        while not done.wait(0.1):
            progress.check_stop()

    def watch(self, progress: Progress) -> None:
        """Failures and inference times."""
        before_ms = self.store.state().inference_ms
        probation.watch(self._host, self.name, before_ms, self._options.probation, progress.pause)

    def go_back(self, key: str | None, roll_back: Callable[[str], str | None], progress: Progress) -> None:
        """Loads the version that is active now; if that can't be, the one before it."""
        while True:
            try:
                path = self.store.archive(key) if key else None
                model = self._host.load_version(self.name, path, progress.check_stop)
                break
            except ConfigError as error:
                if key is None:
                    raise
                key = roll_back("; ".join(error.problems))
        self._put_into_service(model, progress)
