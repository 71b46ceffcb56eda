"""The service manager's watchdog: it is pinged only while every pipeline makes progress."""

import logging

from edge_agent.pipeline.registry import HUNG_AFTER, Pipelines
from edge_agent.system import systemd

log = logging.getLogger(__name__)


def ping(pipelines: Pipelines) -> None:
    """Pings the watchdog, unless a pipeline hangs; the service manager then ends and restarts the process."""
    if hung := pipelines.hung():
        pipelines.note_hung()
        names = ", ".join(hung)
        log.error("%s: one sample has taken more than %g s: withholding the watchdog ping", names, HUNG_AFTER)
    else:
        systemd.notify_watchdog()
