"""edge-agent, with exceptions that nothing expects, or with slow models.

$FAILING_THREAD: a regular expression: a thread of such a name raises instead of doing its work; `main`: the main
thread, at its first statistics. $FAILING_PAGE: requests of the status page raise. $SLOW: seconds that an inference
takes longer. $DEADLY: the inference of a picture that ends in `deadly` hangs; it counts as one that hangs after 0.5 s.
"""

import os
import re
import sys
import threading
import time
from typing import Any

from edge_agent import cli
from edge_agent.daemon.status import Reports

NAME = os.environ.get("FAILING_THREAD", "-")


def _raise(*_: Any) -> None:
    raise LookupError("made up")


def _run(self: threading.Thread) -> None:
    if re.fullmatch(NAME, self.name):
        _raise()
    _original_run(self)


if __name__ == "__main__":
    _original_run = threading.Thread.run
    threading.Thread.run = _run  # type: ignore[method-assign]
    if NAME == "main":
        Reports.stats = _raise  # type: ignore[method-assign,assignment]
    if "FAILING_PAGE" in os.environ:
        from edge_agent.monitoring.page.app import Page

        Page.__call__ = _raise  # type: ignore[method-assign,assignment]
    if "SLOW" in os.environ:
        from edge_agent.models.model import Model

        quick = Model.infer

        def infer(self: Model, *arguments: Any) -> Any:
            time.sleep(float(os.environ["SLOW"]))
            return quick(self, *arguments)

        Model.infer = infer  # type: ignore[method-assign,assignment]
    if "DEADLY" in os.environ:
        from edge_agent.models.stages import Stages
        from edge_agent.pipeline import registry

        registry.HUNG_AFTER = 0.5
        harmless = Stages.infer

        def deadly(self: Stages, batch: Any) -> None:
            if any(item.sample.data.endswith(b"deadly") for item in batch):
                time.sleep(1000)
            harmless(self, batch)

        Stages.infer = deadly  # type: ignore[method-assign]
    sys.exit(cli.main())
