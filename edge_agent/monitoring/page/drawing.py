"""Zones, regions, masks and a meter's frame: read from the configuration, and written into its file."""

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from edge_agent import settings
from edge_agent.config.editing import EditError, FileEdit, Value
from edge_agent.errors import ConfigError
from edge_agent.monitoring.agent_status import AgentStatus
from edge_agent.monitoring.page.answers import Answer, Request, as_json, in_words, not_found
from edge_agent.system.text import TextError, parse_json

log = logging.getLogger(__name__)

MOST_SHAPES, MOST_CORNERS, LONGEST_NAME = 64, 100, 64
LARGEST = 65_535.0
PLACES = {"zones": ("filters", "zones"), "regions": ("regions",), "mask": ("keep", "mask"), "meter": ("meter", "box")}
_POINT, _BOX, _TRIANGLE = 2, 4, 3

Change = tuple[tuple[str, ...], Value | None]


class Drawing:
    """Places in the pictures of an agent's pipelines.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: AgentStatus) -> None:
        self._agent = agent
        self._lock = threading.Lock()

    def shown(self, request: Request) -> Answer:
        """What is drawn for a pipeline; coordinates as in the file: pixels or, if none is above 1, fractions."""
        try:
            options = self._agent.options_of(request.name)
        except KeyError:
            return not_found("pipeline")
        meter = options.meter
        return as_json(
            {
                "zones": options.filters.zones,
                "regions": options.regions,
                "mask": [] if options.keep is None else options.keep.mask,
                "meter": None if meter is None else {"box": meter.box, "digits": meter.digits},
                "keeps": options.keep is not None,
                "file": self._agent.config().path.name,
            }
        )

    def written(self, request: Request) -> Answer:
        """Writes what has been drawn into the file: checked before, reloaded, and taken back if that fails."""
        try:
            options = self._agent.options_of(request.name)
        except KeyError:
            return not_found("pipeline")
        try:
            changes = changes_of(request.name, options, parse_json(request.body))
        except (TextError, ValueError) as error:
            return in_words(HTTPStatus.BAD_REQUEST, str(error))
        return self.change(changes)

    def change(self, changes: Sequence[Change]) -> Answer:
        """Changes the configuration file, and has the agent use it.

        Args:
            changes: keys and their new values.
        """
        if not self._lock.acquire(blocking=False):
            return in_words(HTTPStatus.CONFLICT, "another change is being made")
        try:
            return self._change(changes)
        except ConfigError as error:
            return in_words(HTTPStatus.UNPROCESSABLE_ENTITY, "\n".join(error.problems))
        except EditError as error:
            return in_words(HTTPStatus.CONFLICT, str(error))
        except OSError as error:
            path = self._agent.config().path
            hint = "let the agent's user write to its folder"
            return in_words(HTTPStatus.INSUFFICIENT_STORAGE, f"{path}: can't be written: {error.strerror}: {hint}")
        finally:
            self._lock.release()

    def _change(self, changes: Sequence[Change]) -> Answer:
        edit = FileEdit(self._agent.config().path, changes)
        if not edit.changes_something:
            return as_json({"changed": False})
        edit.write()
        log.info("%s: changed by the status page: %s", edit.path, ", ".join(".".join(key) for key, _ in changes))
        if problems := self._agent.reload():
            edit.take_back()
            log.warning("%s: the change of the status page has been taken back", edit.path)
            text = "\n".join(["taken back, since it does not work:", *problems])
            return in_words(HTTPStatus.UNPROCESSABLE_ENTITY, text)
        return as_json({"changed": True})


def changes_of(pipeline: str, options: settings.Pipeline, document: object) -> list[Change]:
    """What has to be changed so that the file says what was drawn.

    Args:
        pipeline: its name.
        options: its settings now.
        document: `zones` and `regions` by name, `mask` as a list, `meter` as a box; what is not there stays as it is.

    Raises:
        ValueError: it is something else, or too large.
    """
    if not isinstance(document, dict) or not document.keys() <= PLACES.keys():
        raise ValueError("expected zones, regions, mask or meter")
    base, changes = ("pipelines", pipeline), list[Change]()
    named: dict[str, tuple[Mapping[str, Any], Callable[[object], Value]]] = {
        "zones": (options.filters.zones, _polygon),
        "regions": (options.regions, _box),
    }
    for kind, (before, read) in named.items():
        if kind in document:
            shapes = {name: read(shape) for name, shape in _named(document[kind]).items()}
            gone = [name for name in before if name not in shapes]
            changes += [((*base, *PLACES[kind], name), shape) for name, shape in shapes.items()]
            changes += [((*base, *PLACES[kind], name), None) for name in gone]
    if "mask" in document:
        if options.keep is None:
            raise ValueError("a mask is of keep, which this pipeline does not have")
        changes.append(((*base, *PLACES["mask"]), [_polygon(one) for one in _several(document["mask"])] or None))
    if "meter" in document:
        if options.meter is None:
            raise ValueError("this pipeline reads no meter")
        changes.append(((*base, *PLACES["meter"]), _box(document["meter"])))
    return changes


def _named(shapes: object) -> Mapping[str, Any]:
    if not isinstance(shapes, dict) or len(shapes) > MOST_SHAPES:
        raise ValueError(f"expected at most {MOST_SHAPES} shapes by name")
    for name in shapes:
        if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise ValueError(f"a name must have 1 to {LONGEST_NAME} printable characters")
    return shapes


def _several(found: object, most: int = MOST_SHAPES) -> Sequence[Any]:
    if not isinstance(found, list) or len(found) > most:
        raise ValueError(f"expected a list of at most {most}")
    return found


def _numbers(found: object, count: int) -> list[float]:
    row = _several(found, count)
    if len(row) != count or not all(type(one) in (int, float) and math.isfinite(one) for one in row):
        raise ValueError(f"expected {count} numbers")
    if not all(0 <= one <= LARGEST for one in row):
        raise ValueError("coordinates must not be negative, nor larger than any picture")
    return [round(float(one), 4) for one in row]


def _polygon(found: object) -> list[list[float]]:
    corners = [_numbers(point, _POINT) for point in _several(found, MOST_CORNERS)]
    if len(corners) < _TRIANGLE:
        raise ValueError("a polygon needs three corners")
    return corners


def _box(found: object) -> list[float]:
    return _numbers(found, _BOX)
