"""Output lines of GPIO chips, through libgpiod's own binding."""

import logging
import threading
from typing import TYPE_CHECKING

from edge_agent import settings
from edge_agent.errors import EdgeAgentError, MissingExtraError

if TYPE_CHECKING:
    from gpiod import LineRequest
    from gpiod.line import Value

log = logging.getLogger(__name__)


class GpioLines:
    """The lines that the actions of a pipeline set. A line is requested when it is first set.

    The kernel gives a line to one owner at a time: pipelines of an agent share those that they have in common only if
    their actions stand in one pipeline.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, int | str], LineRequest] = {}
        self._pulses: dict[tuple[str, int | str], tuple[threading.Timer, settings.Gpio]] = {}

    def set(self, output: settings.Gpio) -> None:
        """Sets a line; a pulse that still runs on it is over.

        Raises:
            EdgeAgentError: it can't be set.
        """
        with self._lock:
            key = (output.chip, output.line)
            if key in self._pulses:
                self._pulses.pop(key)[0].cancel()
            self._write(output, output.value)
            if output.pulse is not None:
                timer = threading.Timer(output.pulse, self._end_pulse, (key,))
                timer.daemon = True
                self._pulses[key] = (timer, output)
                timer.start()

    def close(self) -> None:
        """Ends the pulses that still run, and releases the lines."""
        with self._lock:
            for timer, output in self._pulses.values():
                timer.cancel()
                self._end(output)
            self._pulses.clear()
            for request in self._requests.values():
                request.release()
            self._requests.clear()

    def _end_pulse(self, key: tuple[str, int | str]) -> None:
        with self._lock:
            timer, output = self._pulses.get(key, (None, None))
            # One that was cancelled too late finds its successor here, or nothing.
            if timer is threading.current_thread() and output is not None:
                del self._pulses[key]
                self._end(output)

    def _end(self, output: settings.Gpio) -> None:
        try:
            self._write(output, not output.value)
        except EdgeAgentError as error:
            log.error("the pulse could not be ended: %s", error)

    def _write(self, output: settings.Gpio, on: bool) -> None:
        try:
            from gpiod.line import Value
        except ImportError as error:
            raise MissingExtraError("setting GPIO lines", "gpio", error) from None
        value = Value.ACTIVE if on else Value.INACTIVE
        where = f"GPIO line {output.line} of {output.chip}"
        key = (output.chip, output.line)
        try:
            if key not in self._requests:
                self._requests[key] = _request(output, value)
            else:
                self._requests[key].set_value(output.line, value)
        except PermissionError:
            raise EdgeAgentError(f"{where}: permission denied: add the service's user to the group gpio") from None
        except FileNotFoundError:
            raise EdgeAgentError(f"{where}: there is no such chip: `gpiodetect` lists those that there are") from None
        except (OSError, ValueError) as error:
            # libgpiod answers ValueError to a name that no line has, and EBUSY to a line that somebody else holds.
            raise EdgeAgentError(f"{where}: {error}: `gpioinfo` shows the lines and who uses them") from None


def _request(output: settings.Gpio, value: "Value") -> "LineRequest":
    import gpiod
    from gpiod.line import Direction

    wanted = gpiod.LineSettings(direction=Direction.OUTPUT, active_low=output.active_low, output_value=value)
    return gpiod.request_lines(output.chip, consumer="edge-agent", config={output.line: wanted})
