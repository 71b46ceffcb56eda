"""Certificates for tests, made with the `openssl` command: authorities, brokers, devices, good ones and bad ones."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def openssl(*arguments: str | Path) -> None:
    """Runs the command; skips the test where there is none."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the openssl command: apt-get install openssl")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in PEM files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority of its own.

    Args:
        folder: where its files go; made if there is none.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.cert = folder / "ca.pem"
        self._key = folder / "ca.key"
        subject = ["-subj", f"/CN=Authority {folder.name}", "-days", "30"]
        openssl("req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.cert, *subject)

    def issue(self, name: str, *, host: str = "", days: int = 30) -> Certificate:
        """A certificate for `name`, as a broker on `host` or, without that, as a client.

        Args:
            name: common name.
            host: DNS name or IP address.
            days: how long it is valid; negative: it has expired.
        """
        made = Certificate(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        kind = "IP" if host.replace(".", "").isdigit() else "DNS"
        extensions.write_text(f"subjectAltName={kind}:{host}\n" if host else "extendedKeyUsage=clientAuth\n")
        openssl("req", *_NEW_KEY, "-keyout", made.key, "-out", request, "-subj", f"/CN={name}")
        authority = ["-CA", str(self.cert), "-CAkey", str(self._key), "-CAcreateserial"]
        options = ["-days", str(days), "-extfile", str(extensions)]
        openssl("x509", "-req", "-in", request, "-out", made.cert, *authority, *options)
        return made
