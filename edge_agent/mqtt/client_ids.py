"""The client ids of an agent's sessions: different sessions have different ones, whatever devices are called.

Names of devices and pipelines may hold the separator themselves: `porch` with the pipeline `pi-lab`, and `porch-pi`
with `lab`, would have the same. Where they do, a hash keeps them apart.
"""

import hashlib
import re
import zlib

# What a device must not end in, since the ids of its other sessions do.
_SUFFIX = re.compile(r"-([0-9a-f]{8}|[0-9a-f]{12}|home-assistant)\Z")


def of_device(device: str) -> str:
    """Of the session for results and commands."""
    client_id = f"edge-agent-{device}"
    return f"{client_id}-{_hash(device)}" if _SUFFIX.search(device) else client_id


def of_home_assistant(device: str) -> str:
    """Of the session for Home Assistant's discovery."""
    return f"edge-agent-{device}-home-assistant"


def of_source(device: str, pipeline: str, subscription: str) -> str:
    """Of a pipeline's session for its inputs.

    A broker keeps the subscriptions of a session. The client id depends on the topic filter, so that after it was
    changed in the configuration no inputs of the earlier one arrive.
    """
    if "-" in device or "-" in pipeline:
        return f"edge-agent-{device}-{pipeline}-{_hash(device, pipeline, subscription)}"
    return f"edge-agent-{device}-{pipeline}-{zlib.crc32(subscription.encode()):08x}"


def _hash(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:12]
