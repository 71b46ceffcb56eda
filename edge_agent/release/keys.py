"""The keys that sign a repository: Ed25519, each in a file of its own, encrypted with a passphrase (PKCS #8)."""

import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner

from edge_agent.errors import ReleaseError
from edge_agent.system.text import MAX_SECRET, TextError, read_text, secret, variable

PASSPHRASE = "EDGE_AGENT_PASSPHRASE"  # noqa: S105 - the name of a variable
MIN_PASSPHRASE = 8
# Returns the passphrase of a key. Arguments: the key's name, and whether the key is new.
Ask = Callable[[str, bool], bytes]


def passphrase_from(file: Path | None) -> Ask:
    """Passphrases from the first line of a file, from $EDGE_AGENT_PASSPHRASE, or from a prompt at the terminal."""

    def ask(name: str, new: bool) -> bytes:
        given = _stated(file)
        if given is None:
            if not sys.stdin.isatty():
                raise ReleaseError(
                    f"{name}: no passphrase: give --passphrase-file, ${PASSPHRASE}, or a terminal to ask at"
                )
            given = getpass.getpass(f"Passphrase of {name}: ")
            if new and getpass.getpass("Once more: ") != given:
                raise ReleaseError(f"{name}: the two passphrases differ: begin again")
        if new and len(given) < MIN_PASSPHRASE:
            raise ReleaseError(f"{name}: a passphrase needs at least {MIN_PASSPHRASE} characters")
        return given.encode()

    return ask


def _stated(file: Path | None) -> str | None:
    """The passphrase in a file, or else in the environment; None if there is neither."""
    where = f"${PASSPHRASE}" if file is None else str(file)
    try:
        found = variable(PASSPHRASE) if file is None else read_text(file, MAX_SECRET, pipes=True)
        return None if found is None else secret(found)
    except OSError as error:
        raise ReleaseError(f"{where}: can't be read: {error.strerror}") from None
    except TextError as error:
        raise ReleaseError(f"{where}: {error}") from None


class NewKey(NamedTuple):
    """A key that is not written yet: every question is answered before the first file changes.

    Attributes:
        signer: signs with it.
        pem: the encrypted key.
    """

    signer: CryptoSigner
    pem: bytes

    def write(self, file: Path) -> None:
        """Writes it to a new file that only its owner can read.

        Raises:
            ReleaseError: the file can't be written.
        """
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(self.pem)
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            raise ReleaseError(f"{file}: can't be written: {error.strerror}") from None


def make(name: str, ask: Ask) -> NewKey:
    """Makes a key.

    Args:
        name: of its file.
        ask: returns its passphrase.

    Raises:
        ReleaseError: there is no passphrase.
    """
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(ask(name, True)))
    return NewKey(CryptoSigner(private), pem)


def load(file: Path, ask: Ask) -> CryptoSigner:
    """Reads a key.

    Raises:
        ReleaseError: the file is missing, is not a key, or the passphrase is wrong.
    """
    try:
        private = load_pem_private_key(file.read_bytes(), ask(file.name, False))
    except FileNotFoundError:
        raise ReleaseError(f"{file}: this key is not here: bring it back from where it is kept for this step") from None
    except (ValueError, TypeError):
        raise ReleaseError(f"{file}: wrong passphrase, or not an encrypted key") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise ReleaseError(f"{file}: expected an Ed25519 key, found another kind")
    return CryptoSigner(private)
