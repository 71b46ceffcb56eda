"""How a device identifies itself to a web server or a bucket."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from edge_agent.settings.base import Frozen

LOOPBACK = ("localhost", "127.0.0.1", "::1")
CREDENTIALS = ("access_key_file", "token_file", "username", "query_file")


class HttpAccess(Frozen):
    """A web server or a bucket, and the credentials for it."""

    url: str
    """Address of the server."""
    access_key_file: str | None = None
    """For S3-compatible buckets: file, or `${env:NAME}`, with `ID:SECRET` in its first line. Needs the extra `s3`."""
    region: str = Field("us-east-1", min_length=1, max_length=64)
    """Of the bucket."""
    token_file: str | None = None
    """For other servers: file, or `${env:NAME}`, with a token that is sent as `Authorization: Bearer`."""
    username: str | None = Field(None, min_length=1, max_length=256, pattern=r"^[^:\x00-\x1f\x7f]+$(?!\n)")
    """For servers that want user name and password (Basic)."""
    password_file: str | None = None
    """File, or `${env:NAME}`, with the password for `username`."""
    query_file: str | None = None
    """For addresses that are signed for a whole folder (SAS): file, or `${env:NAME}`, with what stands behind `?`."""
    ca_file: Path | None = None
    """Certificates that the server's one is checked with. Default: those of the system."""
    cert_file: Path | None = None
    """PEM file of this device's client certificate."""
    key_file: Path | None = None
    """PEM file of the private key for cert_file."""

    @model_validator(mode="after")
    def _credentials_are_clear(self) -> "HttpAccess":
        stated = [name for name in CREDENTIALS if getattr(self, name) is not None]
        if len(stated) > 1:
            raise ValueError(f"only one of {', '.join(stated)}")
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together: give both or neither")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both or neither")
        parts = urlsplit(self.url)
        if (stated or self.cert_file) and parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise ValueError("credentials need an https:// address: they would go through the network in clear text")
        return self
