"""Keeps what the tools print, progress and advice to their own users, off the terminal."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

from edge_agent.engines.stderr_filter import EVERYTHING, without_chatter
from edge_agent.errors import EdgeAgentError, ModelError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops output on both standard streams, warnings, and log records up to warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            without_chatter(EVERYTHING),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def reported(step: str) -> Iterator[None]:
    """Runs a tool quietly; whatever it raises becomes a sentence.

    Args:
        step: what it does, as in "can't be quantized".

    Raises:
        ModelError: the tool has failed.
    """
    try:
        with quiet():
            yield
    except EdgeAgentError:
        raise
    except Exception as error:  # the tools' exceptions have no common base class
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"can't be {step} by the tool: {said}") from error
