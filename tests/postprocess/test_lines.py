import itertools
import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge_agent import settings
from edge_agent.errors import InputError
from edge_agent.postprocess.lines import Crossing, Lines, Totals
from edge_agent.postprocess.tracking import Tracker
from edge_agent.samples import Prediction

WIDTH, HEIGHT = 1280, 720
# Across the picture, a bit above its middle: who goes down goes in.
DOOR = {"from": [0.1, 0.45], "to": [0.9, 0.45]}
ACROSS = 0.45 * HEIGHT
FPS = 8.0

Frame = list[Prediction]
Point = tuple[float, float]


def lines(**named: Any) -> dict[str, settings.Line]:
    return {name: settings.Line.model_validate(one) for name, one in named.items()}


def person(foot: Point, high: float = 120, confidence: float = 0.8) -> Prediction:
    x, y = foot
    return Prediction("person", 0, confidence, box=(x - 0.2 * high, y - high, x + 0.2 * high, y))


def crossings(frames: Sequence[Frame], fps: float = FPS, **named: Any) -> list[Crossing]:
    """All crossings of the lines (else of the door), with what happens until everybody has been lost."""
    options = lines(**(named or {"door": DOOR}))
    across = Lines(options)
    across.fit(WIDTH, HEIGHT)
    tracker = Tracker(settings.Tracking(), None, across, Totals("hall", options, None))
    silence: list[Frame] = [[]] * int(3 * fps)
    events = [tracker.update(frame, step / fps)[1] for step, frame in enumerate([*frames, *silence])]
    return [event for event in itertools.chain(*events) if isinstance(event, Crossing)]


def walk(*corners: Point, speed: float = 150) -> list[Point]:
    """Where somebody is in each frame who goes from corner to corner, in pixels a second."""
    path = [corners[0]]
    for start, end in itertools.pairwise(corners):
        steps = max(1, round(math.dist(start, end) / speed * FPS))
        path += [
            (start[0] + (end[0] - start[0]) * n / steps, start[1] + (end[1] - start[1]) * n / steps)
            for n in range(1, steps + 1)
        ]
    return path


def ways(found: Sequence[Crossing]) -> list[tuple[str, str]]:
    return [(one.line, one.direction) for one in found]


def test_who_crosses_from_left_to_right_of_the_line_goes_in_and_back_out() -> None:
    path = walk((600, 150), (600, 600), (600, 150))
    found = crossings([[person(foot)] for foot in path])
    assert ways(found) == [("door", "in"), ("door", "out")]
    assert [one.totals for one in found] == [{"in": 1, "out": 0}, {"in": 1, "out": 1}]
    turned = {"from": DOOR["to"], "to": DOOR["from"]}
    assert ways(crossings([[person(foot)] for foot in path], door=turned)) == [("door", "out"), ("door", "in")]


def test_who_turns_back_before_the_line_or_walks_past_its_end_does_not_cross() -> None:
    before = walk((600, 150), (600, ACROSS - 30), (600, 150))
    past = walk((60, 150), (60, 600))
    along = walk((200, ACROSS - 40), (1000, ACROSS - 40))
    assert crossings([[person(foot)] for foot in (*before, *past, *along)]) == []


def test_who_stands_on_the_line_counts_once_when_they_have_crossed() -> None:
    chance = random.Random(1)
    there = [(600 + chance.gauss(0, 3), ACROSS + chance.gauss(0, 4)) for _ in range(400)]
    onwards = walk((600, 150), (600, ACROSS)) + there + walk((600, ACROSS), (600, 600))
    back = walk((600, 150), (600, ACROSS)) + there + walk((600, ACROSS), (600, 150))
    assert ways(crossings([[person(foot)] for foot in onwards])) == [("door", "in")]
    assert crossings([[person(foot)] for foot in back]) == []


def test_who_vanishes_just_behind_the_line_has_crossed_it() -> None:
    path = walk((600, 150), (600, ACROSS + 5))
    assert ways(crossings([[person(foot)] for foot in path])) == [("door", "in")]
    assert crossings([[person(foot)] for foot in walk((600, 150), (600, ACROSS - 5))]) == []


def test_each_line_counts_for_itself() -> None:
    frames = [[person(foot)] for foot in walk((600, 150), (600, 650))]
    named: dict[str, Any] = {"far": {"from": [0, 0.4], "to": [1, 0.4]}, "near": {"from": [1200, 576], "to": [0, 576]}}
    assert ways(crossings(frames, **named)) == [("far", "in"), ("near", "out")]


def scenario(seed: int) -> tuple[list[Frame], Counter[str]]:
    """One to three people, and how often the door is crossed in either direction.

    Each crosses, or stops on the line for up to ten seconds and goes on or back, or turns back before the line, or
    behind it; they meet on their ways. A tenth of all detections is missing, places and sizes jitter by 3 %,
    confidences vary, and in half of the scenes somebody is hidden for up to a second.
    """
    chance = random.Random(seed)
    truth: Counter[str] = Counter()
    paths, heights = [], []
    lanes = chance.sample(range(250, 1050, 60), 3)
    for lane in lanes[: chance.randint(1, 3)]:
        high, down = chance.uniform(90, 180), chance.choice((1, -1))
        far, near = ACROSS - down * chance.uniform(150, 280), ACROSS + down * chance.uniform(150, 280)
        beyond = lane + chance.uniform(-120, 120)
        stop = [(lane + (beyond - lane) / 2, ACROSS)] * chance.randint(8, 80)
        speed = chance.uniform(80, 250)
        there, back = ("in", "out") if down > 0 else ("out", "in")
        match chance.choice(("across", "across", "stop", "stop and back", "before", "behind")):
            case "across":
                path = walk((lane, far), (beyond, near), speed=speed)
                truth[there] += 1
            case "stop":
                path = walk((lane, far), stop[0], speed=speed) + stop + walk(stop[0], (beyond, near), speed=speed)
                truth[there] += 1
            case "stop and back":
                path = walk((lane, far), stop[0], speed=speed) + stop + walk(stop[0], (lane, far), speed=speed)
            case "before":
                path = walk((lane, far), (lane, ACROSS - down * 0.3 * high), (beyond, far), speed=speed)
            case _:  # and stays there for longer than anybody is hidden
                turn = (lane, ACROSS + down * 0.4 * high)
                path = walk((lane, far), turn, speed=speed) + [turn] * 12 + walk(turn, (beyond, far), speed=speed)
                truth.update((there, back))
        paths.append([path[0]] * chance.randint(2, 24) + path + [path[-1]] * 8)
        heights.append(high)
    return list(_seen(chance, paths, heights)), truth


def _seen(chance: random.Random, paths: Sequence[Sequence[Point]], heights: Sequence[float]) -> Iterator[Frame]:
    hidden = [
        (begins := chance.uniform(0.2, 0.8) * len(path), begins + chance.uniform(0, FPS) * (chance.random() < 0.5))
        for path in paths
    ]
    for step in range(max(map(len, paths))):
        frame: Frame = []
        for path, high, (begins, ends) in zip(paths, heights, hidden, strict=True):
            if step >= len(path) or begins <= step < ends or chance.random() < 0.1:
                continue
            x, y, jittered = (chance.gauss(value, 0.03 * high) for value in (*path[step], high))
            frame.append(person((x, y), jittered, min(0.95, max(0.3, chance.gauss(0.7, 0.12)))))
        yield frame


@pytest.mark.parametrize("scenes", [200, pytest.param(1000, marks=pytest.mark.faults)])
def test_of_scenes_with_hidden_people_stops_turns_and_crossing_paths_98_percent_are_counted_rightly(
    scenes: int,
) -> None:
    right = 0
    for seed in range(scenes):
        frames, truth = scenario(seed)
        right += Counter(one.direction for one in crossings(frames)) == +truth
    print(f"{right} of {scenes}")
    assert right >= 0.98 * scenes


def test_the_event_document() -> None:
    event = Crossing(7.0, "door", "in", {"in": 3, "out": 1}, 4, "person", 0, 0.87654, (1.04, 2, 3, 4))
    assert event.as_dict() == {
        "event": "cross", "line": "door", "direction": "in", "in": 3, "out": 1,
        "track_id": 4, "label": "person", "class_id": 0, "confidence": 0.8765, "box": [1.0, 2, 3, 4],
    }  # fmt: skip


def test_a_line_in_pixels_that_the_frame_does_not_have_is_refused() -> None:
    across = Lines(lines(door={"from": [0, 100], "to": [2000, 100]}))
    with pytest.raises(InputError, match="line 'door' reaches to \\(2000, 100\\)"):
        across.fit(WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"from": [0, 0.5], "to": [0, 0.5]}, "two different points"),
        ({"from": [0, -1], "to": [0, 0.5]}, "numbers >= 0"),
        ({"from": [0, 0.5]}, "to"),
        ({"from": [0, 0.5], "to": [1, 0.5], "reset": "24:00"}, "reset"),
    ],
)
def test_lines_that_are_none_are_refused(line: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        settings.Line.model_validate(line)


def test_totals_outlast_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "lines" / "hall.json"
    totals = Totals("hall", lines(door=DOOR), file)
    totals.add("door", "in")
    totals.add("door", "in")
    totals.add("door", "out")
    totals.save()
    again = Totals("hall", lines(door=DOOR, gate=DOOR), file)
    assert again.at(time.time()) == {"door": {"in": 2, "out": 1}, "gate": {"in": 0, "out": 0}}
    assert again.add("door", "in") == {"in": 3, "out": 1}


def test_totals_are_written_only_after_a_change_and_seldom(tmp_path: Path) -> None:
    file = tmp_path / "hall.json"
    totals = Totals("hall", lines(door=DOOR), file)
    totals.at(time.time())
    assert not file.exists()
    totals.add("door", "in")
    totals.at(time.time())
    written = file.read_text()
    totals.add("door", "in")
    totals.at(time.time())
    assert file.read_text() == written


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"door": {"in": "7"}}', '{"door": {"since": 1, "in": -1, "out": 2}}']
)
def test_a_damaged_file_begins_again(content: str, tmp_path: Path) -> None:
    (tmp_path / "hall.json").write_text(content)
    totals = Totals("hall", lines(door=DOOR), tmp_path / "hall.json")
    assert totals.at(time.time()) == {"door": {"in": 0, "out": 0}}


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs tzset")
def test_totals_begin_again_at_their_time_of_day_also_if_it_passed_while_nothing_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = os.environ.get("TZ")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        evening = time.mktime((2026, 3, 28, 23, 59, 0, 0, 0, -1))
        file = tmp_path / "hall.json"
        file.write_text(json.dumps({"door": {"since": evening - 3600, "in": 5, "out": 4}}))
        options = lines(door=DOOR | {"reset": "00:00"})
        totals = Totals("hall", options, file)
        assert totals.at(evening) == {"door": {"in": 5, "out": 4}}
        assert totals.at(evening + 61) == {"door": {"in": 0, "out": 0}}
        totals.add("door", "in")
        # The clocks go forward that night: the day has 23 hours.
        assert totals.at(evening + 60 + 22.9 * 3600) == {"door": {"in": 1, "out": 0}}
        assert totals.at(evening + 60 + 23.1 * 3600) == {"door": {"in": 0, "out": 0}}
        totals.add("door", "out")
        assert totals.at(0.0) == {"door": {"in": 0, "out": 1}}  # a clock that is not set yet
        assert Totals("hall", options, file).at(evening + 86400 * 3) == {"door": {"in": 0, "out": 0}}
    finally:
        monkeypatch.undo()
        assert os.environ.get("TZ") == zone
        time.tzset()
