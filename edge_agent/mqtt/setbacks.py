"""A broker that does not take results: not now, or never this one."""

import logging
import time

from edge_agent.backoff import Backoff
from edge_agent.mqtt.delivery import Delivery
from edge_agent.mqtt.reasons import Refusal

log = logging.getLogger(__name__)

# A broker that takes no more for now is asked again after so many seconds, at first and in the end.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
# A result that was the first without an answer so many times running when the connection ended will never have one.
HANG_UPS = 5


class Pause:
    """While a broker takes no more (a quota, say) it is asked with one message, after longer and longer pauses.

    Attributes:
        on: whether it has taken nothing since it said so.
        until: when it is asked again, on the monotonic clock.
    """

    def __init__(self) -> None:
        self.on = False
        self.until = 0.0
        self._delays = Backoff(FIRST_PAUSE, LONGEST_PAUSE)

    def begin(self, refusal: Refusal) -> None:
        """It takes no more; what else is refused at the same time makes no difference."""
        now = time.monotonic()
        if now < self.until:
            return
        if not self.on:
            log.warning("the broker takes no more results for now: %s", refusal.why)
        self.on, self.until = True, now + self._delays.delay()

    def end(self) -> None:
        """It has taken a result."""
        if self.on:
            log.info("the broker takes results again")
            self._delays.reset()
        self.forget()

    def forget(self) -> None:
        """The connection is a new one."""
        self.on, self.until = False, 0.0


class Suspicion:
    """Finds the result at which a broker hangs up, as those of MQTT 3.1.1 do when one is too large for them.

    Without that, it would be sent again and again, and nothing behind it would ever arrive.
    """

    def __init__(self) -> None:
        self._payload = b""
        self._times = 0

    def confirmed(self, delivery: Delivery) -> bool:
        """The connection, which had worked, ended with this result the first without an answer: is it to blame?"""
        payload = delivery.payload()
        self._times = self._times + 1 if payload == self._payload else 1
        self._payload = payload
        return self._times >= HANG_UPS
