"""Brokers that do not accept results: none for now (quota), or never a certain one (poison message)."""

import logging
import time

from edge_agent.mqtt.delivery import Delivery
from edge_agent.mqtt.reasons import Refusal
from edge_agent.system.backoff import Backoff

log = logging.getLogger(__name__)

# Seconds until a broker that refuses messages for now is tried again: at first, and at most.
FIRST_DELAY = 1.0
MAX_DELAY = 60.0
# A result that was the first without a PUBACK this many times in a row when the connection ended is given up.
MAX_DISCONNECTS = 5


class QuotaBackoff:
    """Spaces attempts while a broker refuses messages for now (Quota exceeded): one message, after growing delays.

    Attributes:
        active: whether the broker has acknowledged no result since it refused one for now.
        until: when the next message may be sent, on the monotonic clock.
    """

    def __init__(self) -> None:
        self.active = False
        self.until = 0.0
        self._delays = Backoff(FIRST_DELAY, MAX_DELAY)

    def refused(self, refusal: Refusal) -> None:
        """The broker has refused a result for now; others that it refuses at the same time make no difference."""
        now = time.monotonic()
        if now < self.until:
            return
        if not self.active:
            log.warning("the broker takes no more results for now: %s", refusal.why)
        self.active, self.until = True, now + self._delays.delay()

    def acknowledged(self) -> None:
        """The broker has acknowledged a result."""
        if self.active:
            log.info("the broker takes results again")
            self._delays.reset()
        self.reset()

    def reset(self) -> None:
        """There is a new connection."""
        self.active, self.until = False, 0.0


class PoisonMessageDetector:
    """Finds the result on which a broker closes the connection, as those of MQTT 3.1.1 do when it exceeds their limit.

    Without that, it would be sent again and again, and nothing behind it would ever arrive. The first result without a
    PUBACK when a connection ends is the suspect. Over the next connection one message is sent at a time until a result
    has been acknowledged, which shows whether the broker works and which message makes it close the connection.

    Attributes:
        active: whether no result has been acknowledged since a connection ended with one unacknowledged.
    """

    def __init__(self) -> None:
        self.active = False
        self._suspect = b""
        self._times = 0

    def disconnected(self, first: Delivery, *, worked: bool, by_us: bool) -> bool:
        """The connection has ended; returns whether a result is the cause.

        Args:
            first: the first result without a PUBACK.
            worked: whether the broker had acknowledged anything else over this connection.
            by_us: whether it was ended because this PUBACK is overdue, so that the suspect is known already.
        """
        self.active = not by_us
        payload = first.payload()
        if payload != self._suspect:
            self._suspect, self._times = payload, 0
        self._times += worked
        return self._times >= MAX_DISCONNECTS

    def acknowledged(self) -> None:
        """Every copy of a result was acknowledged or refused."""
        self.active = False
