"""Where the broker is and what is needed to get in; and what a failure to get in means, in one sentence."""

import os
import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from edge_agent.errors import ConfigError
from edge_agent.settings import Mqtt

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_ENV = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_MAX_PASSWORD_FILE = 65536


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker's address and the credentials for it. The password is read anew for each connection, so that it can be
    changed in place, and is in no representation of this object."""

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
            folder: what their paths are relative to.
            url: used instead of theirs (an embedded broker's).
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
            **{name: path and folder / path.expanduser() for name, path in files.items()},
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
        if variable := _ENV.fullmatch(self.password_file):
            if variable[1] not in os.environ:
                raise ConfigError([f"mqtt.password_file: the environment variable {variable[1]} is not set"])
            return os.environ[variable[1]]
        path = self.folder / Path(self.password_file).expanduser()
        try:
            with path.open(encoding="utf-8") as file:
                return file.read(_MAX_PASSWORD_FILE).split("\n", 1)[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"mqtt.password_file: {path} can't be read: {error}"]) from None

    def tls_context(self) -> ssl.SSLContext | None:
        """TLS 1.2 or later, certificate and host name verified; None for an address without TLS.

        Raises:
            ConfigError: a certificate or key file can't be used.
        """
        if self.scheme not in ("mqtts", "wss"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file and str(self.ca_file))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(path) for path in (self.ca_file, self.cert_file, self.key_file) if path)
            raise ConfigError([f"mqtt: a certificate or key file can't be used ({files}): {error}"]) from None
        return context

    def explain(self, error: OSError) -> str:
        """Why no connection came about, and what to look at."""
        match error:
            case ssl.SSLCertVerificationError():
                hint = {
                    10: "renew it, or set this device's clock",
                    62: "use the name that stands in the certificate in mqtt.url",
                }.get(error.verify_code, "give its authority as mqtt.ca_file")
                return f"{self.address}: the broker's certificate is not accepted: {error.verify_message}: {hint}"
            case ssl.SSLError():
                reason = (error.reason or str(error)).replace("_", " ").lower()
                return f"{self.address}: TLS fails: {reason}: is this the broker's TLS port, and does it want a certificate?"
            case socket.gaierror():
                return f"{self.address}: the name {self.host} is not known to the network: check mqtt.url"
            case TimeoutError():
                return f"{self.address}: no answer: is the broker up, and does a firewall stand between?"
            case ConnectionRefusedError():
                return f"{self.address}: nothing listens there: is the broker running, and is the port right?"
        return f"{self.address}: {error.strerror or error}"
