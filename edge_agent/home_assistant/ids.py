"""Names in discovery topics and ids of entities."""

import hashlib
import re

MAX_ID = 64


def safe(name: str) -> str:
    """A name for discovery topics and ids: letters, digits, `_` and `-`. Different names stay different.

    A name that has to be changed, or looks as if it had been, ends in a part of its hash.
    """
    mapped = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:MAX_ID]
    if mapped == name and not re.search(r"-[0-9a-f]{12}$", name):
        return name
    return f"{mapped}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:12]}"
