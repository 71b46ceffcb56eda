"""The agent's side of updates: implements `update.host.Host`. Called from the updater's thread."""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_agent.daemon.state import State
from edge_agent.daemon.status import Reports
from edge_agent.errors import ConfigError, UpdateError
from edge_agent.models.loading import load_models
from edge_agent.pipeline import compatibility
from edge_agent.pipeline.pipeline import Pipeline
from edge_agent.pipeline.text import TextPipeline
from edge_agent.update.active import version_of, with_version
from edge_agent.update.host import Served

log = logging.getLogger(__name__)


class UpdateHost:
    """Loads new versions of models while the old ones serve, and passes them to the main thread.

    Args:
        state: of the agent.
        reports: of the agent.
        call: calls a function in the main thread.
        adopt: puts the active version of a model into service; to be called in the main thread.
        reload: requests a reload of the configuration; from any thread.
    """

    def __init__(
        self,
        state: State,
        reports: Reports,
        call: Callable[[Callable[[], None]], None],
        adopt: Callable[[str, Served | None], None],
        reload: Callable[[], None],
    ) -> None:
        self.request_reload = reload
        self._state = state
        self._reports = reports
        self._call = call
        self._adopt = adopt

    def serving(self, name: str) -> Served | None:
        """The version of a model that serves now; see `Host.serving`."""
        model = self._state.models.get(name)
        return model if isinstance(model, Served) else None

    def pipelines(self, name: str) -> list[Pipeline]:
        """The running pipelines of a model."""
        running = list(self._state.pipelines.running.values())
        return [one for one in running if isinstance(one, Pipeline) and one.options.model == name]

    def running(self) -> Mapping[str, Pipeline | TextPipeline]:
        """The running pipelines, by name."""
        return dict(self._state.pipelines.running)

    def problems(self) -> Mapping[str, str]:
        """Why a pipeline gives no results; see `Host.problems`."""
        return self._reports.problems().pipelines

    def load_version(self, name: str, path: Path | None, check_stop: Callable[[], None]) -> Served | None:
        """Loads a version of a model while the old one serves; see `Host.load_version`."""
        options = self._state.loaded.settings.models[name]
        wanted = with_version(self._state.config, name, options if path is None else version_of(options, path))
        try:
            loaded = load_models(wanted, self._state.models, waiting=check_stop)
            compatibility.check(wanted, loaded)
        except ConfigError as error:
            about = [f": models.{name}: ", *(f": pipelines.{pipeline.name}." for pipeline in self.pipelines(name))]
            if any(part in problem for problem in error.problems for part in about):
                raise
            raise UpdateError(f"{name}: no version is tried as long as {error.problems[0]}") from None
        model = loaded.get(name)
        return model if isinstance(model, Served) else None

    def adopt(self, name: str, model: Served | None) -> threading.Event:
        """Puts the active version of a model into service; see `Host.adopt`."""
        log.debug("%s: passing the active version to the main thread", name)
        done = threading.Event()

        def adopt() -> None:
            self._adopt(name, model)
            done.set()

        self._call(adopt)
        return done

    def publish_state(self, document: Mapping[str, Any]) -> None:
        """Publishes the state of updates, retained."""
        self._state.uplink.notify([self._reports.update(document)])
