"""What is wrong with a session though it can connect: what shows only over several connections, or after them."""

import time

from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.mqtt import reasons

# When this many connections in a row were ended by the broker, each after less than `CONTESTED` seconds, another client
# probably uses the same client id. In MQTT 5 the broker says so itself.
MAX_SHORT_CONNECTIONS = 3
CONTESTED = 60.0
# Seconds for which the reason of a reconnect of our own is part of the diagnosis.
REMEMBERED = 600.0


class ConnectionHealth:
    """Watches how connections of one session end. Changed by the connection's thread, read by any.

    Args:
        address: of the broker.
        client_id: of the session.

    Attributes:
        contested: the sentence, while another client seems to use the client id.
    """

    def __init__(self, address: str, client_id: str) -> None:
        self.contested = ""
        self._address = address
        self._client_id = client_id
        self._up_since = 0.0
        self._short_connections = 0
        self._own_reason, self._own_at = "", 0.0

    def connected(self) -> None:
        """A CONNACK has come."""
        self._up_since = time.monotonic()

    def not_reached(self) -> None:
        """There was no connection at all."""
        self._short_connections = 0

    def lost(self, reason: ReasonCode | None, own_reason: str) -> None:
        """A connection has ended.

        Args:
            reason: in the broker's DISCONNECT; None: there was none.
            own_reason: why this side has ended it; empty: it has not.
        """
        self.contested = ""
        if own_reason:
            self._own_reason, self._own_at, self._short_connections = own_reason, time.monotonic(), 0
            return
        # Each of two clients of one id ends the other's connection.
        short = time.monotonic() - self._up_since < CONTESTED
        self._short_connections = self._short_connections + 1 if short else 0
        if reason is not None and reason.value == reasons.SESSION_TAKEN_OVER:
            self.contested = f"{self._address}: connection lost: ended by the broker: {reasons.sentence(reason)}"
        elif reason is None and self._short_connections >= MAX_SHORT_CONNECTIONS:
            self.contested = (
                f"{self._address}: connection lost: ended by the broker soon after each connect, again and again:"
                f" probably another client uses this client id, {self._client_id}: is device_id unique?"
            )

    def diagnosis(self, *, connected: bool) -> str:
        """What is wrong; empty: nothing is known.

        Args:
            connected: whether there is a connection now.
        """
        now = time.monotonic()
        if self.contested and (not connected or now - self._up_since < CONTESTED):
            return self.contested
        return self._own_reason if now - self._own_at < REMEMBERED else ""
