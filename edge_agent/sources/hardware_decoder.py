"""Decoders in hardware: each has to prove itself on the stream, beside the software, before it takes its place.

Which there are is up to the machine and to the FFmpeg inside PyAV: `h264_v4l2m2m` on a Raspberry Pi 4, VA-API on PCs.
"""

import copy
import time
from typing import Any

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available

from edge_agent.samples import PlanarFrame

# Frames that are compared, and packets within which they must have come.
FRAMES, PACKETS = 20, 100
# Grey levels by which the mean of the differences of a frame may be off: decoders of one standard agree to the bit.
TOLERANCE = 1.0
# Of the CPU time of the software that the hardware may take at most.
WORTH = 0.8
# One pixel of this many is compared, in each direction.
_EACH = 8
# Packets whose frames have not come out yet, at most.
_PENDING = 64


class HardwareDecoder:
    """A decoder in hardware, used like an `av.CodecContext`.

    Args:
        codec: of the stream, such as `h264`.
        extradata: of the stream's codec.

    Attributes:
        name: of the decoder.

    Raises:
        ValueError: none can be opened, with the reason for each that was tried.
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._opaque: dict[int | None, Any] = {}
        problems = []
        for name in candidates(codec):
            try:
                self._decoder = _opened(name, codec, extradata)
            except (av.error.FFmpegError, ValueError, RuntimeError) as error:
                problems.append(f"{name} can't be opened: {reason(error)}")
            else:
                self.name = name
                return
        raise ValueError("; ".join(problems) or f"PyAV {av.__version__} has none for {codec}")

    @property
    def is_open(self) -> bool:
        """Whether it has been opened."""
        return bool(self._decoder.is_open)

    def decode(self, packet: Any) -> list[Any]:
        """The frames that come out, each with the `opaque` of its packet, which decoders in hardware don't hand on."""
        if packet is not None:
            self._opaque[packet.pts] = packet.opaque
            if len(self._opaque) > _PENDING:
                del self._opaque[next(iter(self._opaque))]
        frames = list(self._decoder.decode(packet))
        for frame in frames:
            # A copy: PyAV forgets an object when the first frame or packet that has it is gone.
            frame.opaque = copy.copy(self._opaque.pop(frame.pts, None))
        return frames

    def flush_buffers(self) -> None:
        """Forgets what is not continued."""
        self._opaque.clear()
        self._decoder.flush_buffers()


class HardwareTrial:
    """Runs a decoder in hardware beside the software, from a keyframe on.

    Args:
        hardware: the decoder.

    Attributes:
        verdict: None: not yet known; "": the hardware is right and cheaper; else why it is not used.
    """

    def __init__(self, hardware: HardwareDecoder) -> None:
        self.hardware = hardware
        self.verdict: str | None = None
        self._began = False
        self._packets = self._compared = 0
        self._cpu_hardware = self._cpu_software = 0.0
        self._waiting: dict[Any, Any] = {}

    def compare(self, packet: Any, frames: list[Any], cpu: float) -> None:
        """Gives the hardware a packet that the software has decoded.

        Args:
            packet: the packet.
            frames: what came out of the software.
            cpu: its CPU time, in seconds.
        """
        if self.verdict is not None or not (self._began or packet.is_keyframe):
            return
        self._began = True
        self._packets += 1
        began = time.process_time()  # its driver may have threads
        try:
            other = self.hardware.decode(packet)
        except (av.error.FFmpegError, ValueError) as error:
            self.verdict = f"{self.hardware.name} fails: {reason(error)}"
            return
        self._cpu_hardware += time.process_time() - began
        self._cpu_software += cpu
        for frame in (*frames, *other):
            self._match(frame)
        if self.verdict is None and self._compared >= FRAMES:
            share = self._cpu_hardware / max(1e-9, self._cpu_software)
            self.verdict = (
                "" if share <= WORTH else f"{self.hardware.name} takes {share:.2f} of the software's CPU time"
            )
        elif self.verdict is None and self._packets >= PACKETS:
            self.verdict = f"{self.hardware.name} gives {self._compared} usable frames of {self._packets} packets"

    def _match(self, frame: Any) -> None:
        """Compares a frame with the one of the other decoder, if that has come."""
        if frame.opaque is None:
            return
        ours = PlanarFrame(frame).luma()[::_EACH, ::_EACH].astype(np.int16)
        other = self._waiting.pop(frame.opaque, None)
        if other is None:
            self._waiting[frame.opaque] = ours
            return
        self._compared += 1
        if other.shape != ours.shape or float(np.abs(other - ours).mean()) > TOLERANCE:
            self.verdict = f"{self.hardware.name} gives other pictures than the software"


def reason(error: Exception) -> str:
    """Why FFmpeg refuses something, in its words."""
    return str(getattr(error, "strerror", None) or error)


def candidates(codec: str) -> list[str]:
    """Names of decoders in hardware that PyAV has for a codec: those of their own, then the devices that assist."""
    own = f"{codec}_v4l2m2m"
    return [own] * (own in av.codecs_available) + ["vaapi"] * ("vaapi" in hwdevices_available())


def _opened(name: str, codec: str, extradata: bytes | None) -> Any:
    if name.startswith(codec):
        decoder = av.CodecContext.create(name, "r")
    else:
        accelerated = HWAccel(name, allow_software_fallback=False)
        decoder = av.CodecContext.create(codec, "r", hwaccel=accelerated)
    decoder.extradata = extradata
    decoder.open()
    return decoder
