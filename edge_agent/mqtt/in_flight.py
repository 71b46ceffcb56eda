"""What has been published over a connection and has no PUBACK yet, and whether one is overdue.

Brokers send PUBACKs in the order of the PUBLISH packets (MQTT 5, 4.6). One that is still missing long after a later one
has come was forgotten, and in a connection that stands nothing makes the broker send it: MQTT allows a PUBLISH to be
sent again only over a new connection.
"""

import math
import time
from collections.abc import Collection
from typing import Generic, TypeVar

T = TypeVar("T")

# Seconds that a PUBACK may be missing after a later one has come: not all brokers keep the order.
OVERDUE_AFTER = 15.0
# Seconds that all may be missing after the broker's machine has received everything.
SILENT_AFTER = 30.0
# There are at least this many seconds between two reconnects because of that.
RECONNECT_EVERY = 30.0


class InFlight(Generic[T]):
    """The messages without a PUBACK, by packet id, in the order in which they were published.

    Attributes:
        worked: whether anything was acknowledged over this connection.
        given_up: whether this connection is ended because a PUBACK is overdue.
        quiet_since: when something was last acknowledged, or the first message after that was published.
    """

    def __init__(self) -> None:
        self.worked = self.given_up = False
        self.quiet_since = 0.0
        self._messages: dict[int, T] = {}
        self._overtaken: int | None = None  # the first message, if a later one has its PUBACK
        self._overtaken_at = 0.0
        self._patient_until = 0.0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def messages(self) -> Collection[T]:
        """All of them, in their order."""
        return self._messages.values()

    def published(self, message_id: int, message: T) -> None:
        """A message has been published."""
        if not self._messages:
            self.quiet_since = time.monotonic()
        self._messages[message_id] = message

    def acknowledged(self, message_id: int) -> T | None:
        """A PUBACK has come; returns its message, None if there is none of this packet id."""
        if message_id not in self._messages:
            return None
        first = next(iter(self._messages))
        self.worked, self.quiet_since = True, time.monotonic()
        if first == message_id:
            self._overtaken = None
        elif self._overtaken is None:
            self._overtaken, self._overtaken_at = first, self.quiet_since
        return self._messages.pop(message_id)

    def clear(self) -> None:
        """The connection has ended."""
        self._messages.clear()
        self._overtaken, self.worked, self.given_up = None, False, False

    def overdue_at(self) -> float:
        """When a PUBACK is overdue, on the monotonic clock, if none comes until then; infinite: never."""
        if not self._messages:
            return math.inf
        at = self.quiet_since + SILENT_AFTER
        if self._overtaken is not None:
            at = min(at, self._overtaken_at + OVERDUE_AFTER)
        return max(at, self._patient_until)

    def overdue(self, *, delivered: bool) -> str:
        """Why the connection has to be made again; empty: it need not yet. To be called at `overdue_at`.

        Args:
            delivered: whether the broker's machine has received everything that was published.
        """
        now = time.monotonic()
        if now < self.overdue_at():
            return ""
        self._patient_until = now + RECONNECT_EVERY
        overtaken = self._overtaken is not None and now >= self._overtaken_at + OVERDUE_AFTER
        self.given_up = overtaken or delivered
        if overtaken:
            return f"no acknowledgement of a message for {OVERDUE_AFTER:g} s, though there are of later ones"
        return f"no acknowledgement of any message for {SILENT_AFTER:g} s" if delivered else ""
