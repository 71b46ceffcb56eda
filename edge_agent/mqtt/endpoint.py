"""The broker's address and credentials, and explanations of why a connection to it failed."""

import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from paho.mqtt.client import WebsocketConnectionError

from edge_agent.errors import ConfigError
from edge_agent.settings import Mqtt
from edge_agent.system.home import expand_user
from edge_agent.system.secret import read_secret

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
# OpenSSL's verify code for the broker's certificate -> what to do; 9: not yet valid, 10: expired, 62: host name
# mismatch, 64: address mismatch.
_CERTIFICATE_HINTS = {
    9: "is this device's clock right?",
    10: "renew it, or set this device's clock",
    62: "write the name that stands in the certificate in mqtt.url",
    64: "write the name that stands in the certificate in mqtt.url",
}
# Part of OpenSSL's name of an error -> what to do.
_TLS_HINTS = {
    "CERTIFICATE_REQUIRED": "set mqtt.cert_file and mqtt.key_file",
    "ALERT_UNKNOWN_CA": "the broker does not know the authority of mqtt.cert_file",
    "ALERT_CERTIFICATE_EXPIRED": "renew mqtt.cert_file, or set this device's clock",
    "ALERT_BAD_CERTIFICATE": "the broker does not accept mqtt.cert_file",
    "HANDSHAKE_FAILURE": "does the broker want a certificate (mqtt.cert_file)?",
    "PROTOCOL": "the broker must offer TLS 1.2 or later",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker's address and the credentials for it.

    The password is read again for each connection, so that it can be changed in place, and is never part of the repr.
    """

    scheme: str
    host: str
    port: int
    path: str
    username: str | None
    password_file: str | None = field(repr=False)
    folder: Path
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None

    @classmethod
    def from_settings(cls, mqtt: Mqtt, folder: Path, url: str | None = None) -> "Endpoint":
        """The endpoint of the settings.

        Args:
            mqtt: the settings.
            folder: paths in the settings are relative to it.
            url: replaces `mqtt.url` (for the embedded broker).
        """
        parts = urlsplit(url or mqtt.url)
        files = {name: getattr(mqtt, name) for name in ("ca_file", "cert_file", "key_file")}
        return cls(
            scheme=parts.scheme,
            host=parts.hostname or "localhost",
            port=parts.port or _PORTS[parts.scheme],
            path=parts.path or "/mqtt",
            username=mqtt.username,
            password_file=mqtt.password_file,
            folder=folder,
            **{name: path and folder / expand_user(path) for name, path in files.items()},
        )

    @property
    def address(self) -> str:
        """For messages: scheme, host and port."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def password(self) -> str | None:
        """The password, from its file or environment variable.

        Raises:
            ConfigError: it can't be read.
        """
        if self.password_file is None:
            return None
        return read_secret("mqtt.password_file", self.password_file, self.folder, "password")

    def tls_context(self) -> ssl.SSLContext | None:
        """TLS 1.2 or later, certificate and host name verified; None for an address without TLS.

        Raises:
            ConfigError: a certificate or key file can't be used.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file and str(self.ca_file))
        except OSError as error:
            raise ConfigError([f"mqtt.ca_file: {self.ca_file} can't be used: {_in_words(error)}"]) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file:
            try:
                # With an empty password an encrypted key fails; without one OpenSSL prompts for it on the terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
            except OSError as error:
                files = f"mqtt.cert_file, mqtt.key_file: {self.cert_file} and {self.key_file}"
                raise ConfigError([f"{files} can't be used together: {_in_words(error)}"]) from None
        return context

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("mqtts", "wss")

    def explain(self, error: OSError) -> str:
        """Why the connection failed, and what to check."""
        match error:
            case ssl.SSLCertVerificationError():
                hint = _CERTIFICATE_HINTS.get(error.verify_code, "give its authority as mqtt.ca_file")
                why = f"the broker's certificate is not accepted: {error.verify_message.rstrip('.')}: {hint}"
            case ssl.SSLError():
                why = _tls_failure(error.reason or "")
            case WebsocketConnectionError():
                why = f"does not speak MQTT over WebSocket at {self.path}: check mqtt.url"
            case socket.gaierror():
                why = f"the name {self.host} is not known to the network: check mqtt.url"
            case TimeoutError():
                why = "no answer: is the broker up, and does a firewall stand between?"
            case ConnectionRefusedError():
                why = "nothing listens there: is the broker running, and is the port right?"
            case ConnectionError() if self.tls:
                why = _tls_failure("")
            case _:
                why = _in_words(error)
        return f"{self.address}: {why}"

    def explain_alert(self, text: str) -> str:
        """Explains an OpenSSL error in paho's log, without the address; empty if `text` has none."""
        alert = re.search(r"\[SSL: (\w+)\]", text)
        return _tls_failure(alert[1]) if alert else ""


def _tls_failure(name: str) -> str:
    hints = (hint for part, hint in _TLS_HINTS.items() if part in name)
    what = f"TLS fails: {name.replace('_', ' ').lower()}" if name else "hangs up during the TLS handshake"
    return f"{what}: {next(hints, 'is this a TLS port of the broker?')}"


def _in_words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error)
