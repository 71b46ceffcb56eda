import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import settings
from edge_agent.decoders import Limits, families
from edge_agent.engines import load_engine
from edge_agent.modelfile import inspect
from edge_agent.postprocess.filters import Filter
from edge_agent.postprocess.lines import Crossing, Lines, Totals
from edge_agent.postprocess.tracking import MAX_TRACKS, Event, Tracker
from edge_agent.preprocess.image import fit
from edge_agent.preprocess.opencv import cv2
from edge_agent.preprocess.placement import place
from edge_agent.samples import Prediction

Frame = list[Prediction]


def tracker(**keys: Any) -> Tracker:
    return Tracker(settings.Tracking.model_validate(keys))


def person(x: float, y: float = 100, confidence: float = 0.8, **keys: Any) -> Prediction:
    """Somebody 40 wide and 100 high, by the middle."""
    return Prediction(
        keys.pop("label", "person"), keys.pop("class_id", 0), confidence, box=(x - 20, y - 50, x + 20, y + 50), **keys
    )


def run(frames: Sequence[Frame], fps: float = 10, **keys: Any) -> tuple[list[Frame], list[Event]]:
    """What is told of each frame, and all events."""
    tracks = tracker(**keys)
    told, events = zip(*(tracks.update(frame, number / fps) for number, frame in enumerate(frames)), strict=True)
    return list(told), [event for event in itertools.chain(*events) if isinstance(event, Event)]


def ids(frame: Frame) -> list[int | None]:
    return [prediction.track_id for prediction in frame]


def kinds(events: Sequence[Event]) -> list[tuple[str, int, str | None]]:
    return [(event.kind, event.track_id, event.zone) for event in events]


def test_an_object_gets_its_number_when_it_is_seen_again_and_keeps_it() -> None:
    told, events = run([[person(100 + 8 * step)] for step in range(20)])
    assert [ids(frame) for frame in told] == [[], *[[1]] * 19]
    assert kinds(events) == [("enter", 1, None)]


@pytest.mark.parametrize("confirm", [1, 5])
def test_an_object_exists_once_it_has_been_seen_as_often_as_is_stated(confirm: int) -> None:
    told, events = run([[person(100)]] * 10, confirm=confirm)
    assert [ids(frame) for frame in told] == [[]] * (confirm - 1) + [[1]] * (11 - confirm)
    assert kinds(events) == [("enter", 1, None)]


def test_what_is_seen_once_is_nothing() -> None:
    told, events = run([[person(100), *([person(500)] if step == 4 else [])] for step in range(10)])
    assert max(map(len, told)) == 1
    assert kinds(events) == [("enter", 1, None)]


def test_numbers_count_from_1_without_gaps_whatever_flickers() -> None:
    flicker = [[person(100), person(600 + 150 * step)] if step % 2 else [person(100)] for step in range(6)]
    told, events = run([*flicker, *[[person(100), person(400)]] * 2])
    assert ids(told[-1]) == [1, 2]
    assert [event.track_id for event in events] == [1, 2]


def test_numbers_go_on_where_those_of_an_earlier_tracker_ended() -> None:
    numbers = itertools.count(1)
    for expected in (1, 2):
        tracks = Tracker(settings.Tracking(), numbers)
        tracks.update([person(100)], 0)
        assert ids(tracks.update([person(100)], 0.1)[0]) == [expected]


def test_predictions_come_out_in_their_order_and_otherwise_unchanged() -> None:
    frame = [
        person(100),
        person(300, confidence=0.9),
        Prediction("indoors", 4, 0.7),
        Prediction("floor", 5, None, area=9),
    ]
    told, _ = run([frame, frame])
    assert told[0] == frame[2:]
    assert ids(told[1]) == [1, 2, None, None]
    assert [(one.label, one.confidence, one.box) for one in told[1]] == [
        (one.label, one.confidence, one.box) for one in frame
    ]


def test_two_who_cross_keep_their_numbers() -> None:
    frames = [[person(100 + 20 * step, 100), person(900 - 20 * step, 130)] for step in range(40)]
    told, events = run(frames)
    assert all(ids(frame) == [1, 2] for frame in told[1:])
    assert [event.kind for event in events] == ["enter", "enter"]


def test_somebody_hidden_while_crossing_comes_out_with_the_same_number() -> None:
    frames = [[person(100 + 15 * step), person(700 - 15 * step)] for step in range(40)]
    hidden = [frame[:1] if abs(number - 20) <= 3 else frame for number, frame in enumerate(frames)]
    told, _ = run(hidden)
    assert all(ids(frame) == [1, 2][: len(frame)] for frame in told[1:])


def test_a_weak_sighting_continues_an_object_and_begins_none() -> None:
    walk = [
        [person(100 + 8 * step, confidence=0.8 if step < 5 else 0.2), person(500, confidence=0.4)] for step in range(30)
    ]
    told, events = run(walk)
    assert [ids(frame) for frame in told] == [[], *[[1]] * 29]
    assert kinds(events) == [("enter", 1, None)]


def test_noise_does_not_even_continue_an_object() -> None:
    told, _ = run([[person(100)], [person(100)], [person(100, confidence=0.05)]])
    assert told[2] == []


def test_an_object_seen_twice_by_the_detector_is_one_object() -> None:
    inner = Prediction("person", 0, 0.6, box=(82, 60, 118, 150))
    told, events = run([[person(100), inner]] * 20)
    assert all(ids(frame) == [1] for frame in told[1:])
    assert kinds(events) == [("enter", 1, None)]


def test_things_of_different_kinds_at_one_place_are_two_objects() -> None:
    told, _ = run([[person(100 + 5 * step), person(102 + 5 * step, label="bicycle", class_id=1)] for step in range(10)])
    assert all(ids(frame) == [1, 2] for frame in told[1:])


def test_a_detector_that_wavers_between_labels_does_not_change_the_number() -> None:
    told, events = run(
        [[person(100 + 4 * step, label=("car", "truck")[step % 2], class_id=step % 2)] for step in range(20)]
    )
    assert all(ids(frame) == [1] for frame in told[1:])
    assert kinds(events) == [("enter", 1, None)]


def test_something_else_that_appears_beside_somebody_who_vanishes_is_something_new() -> None:
    bicycle = person(145, label="bicycle", class_id=1)
    told, _ = run([[person(100)]] * 10 + [[bicycle]] * 3)
    assert [ids(frame) for frame in told[-3:]] == [[], [2], [2]]


def test_events_of_a_frame_come_in_the_order_of_time() -> None:
    frames = [[person(100), person(400)] if step in (19, 20) else [person(100)] for step in range(21)]
    _, events = run(frames, dwell=2)
    assert [(event.kind, event.track_id) for event in events] == [("enter", 1), ("enter", 2), ("dwell", 1)]


def test_leaving_is_told_once_with_when_and_how_long() -> None:
    frames: list[Frame] = [[person(100)] for _ in range(31)] + [[]] * 50
    _, [enter, leave] = run(frames)
    assert (enter.kind, enter.time, enter.seconds) == ("enter", 0, 0)
    assert leave.kind == "leave"
    assert (leave.time, leave.seconds) == pytest.approx((3, 3))
    assert leave.box == person(100).box


def test_who_comes_back_after_having_left_is_somebody_new() -> None:
    frames: list[Frame] = [[person(100)]] * 10 + [[]] * 25 + [[person(100)]] * 10
    told, events = run(frames)
    assert ids(told[-1]) == [2]
    assert kinds(events) == [("enter", 1, None), ("leave", 1, None), ("enter", 2, None)]


def test_a_gap_shorter_than_lost_after_is_bridged() -> None:
    frames: list[Frame] = [[person(100)]] * 10 + [[]] * 18 + [[person(100)]] * 10
    assert [event.kind for event in run(frames, lost_after=2)[1]] == ["enter"]
    assert [event.kind for event in run(frames, lost_after=1)[1]] == ["enter", "leave", "enter"]


def test_dwell_is_told_once_for_each_stay() -> None:
    frames: list[Frame] = ([[person(100)]] * 40 + [[]] * 25) * 2
    _, events = run(frames, dwell="3s")
    assert [(event.kind, event.track_id) for event in events] == [
        ("enter", 1), ("dwell", 1), ("leave", 1), ("enter", 2), ("dwell", 2), ("leave", 2),
    ]  # fmt: skip
    assert events[1].seconds == pytest.approx(3)


def test_with_zones_events_are_of_zones() -> None:
    def zones(step: int) -> tuple[str, ...]:
        return tuple(name for name, first, last in (("door", 0, 30), ("till", 20, 60)) if first <= step < last)

    _, events = run([[person(100 + 4 * step, zones=zones(step))] for step in range(60)] + [[]] * 30, dwell=2.5)
    assert kinds(events) == [
        ("enter", 1, "door"), ("enter", 1, "till"), ("dwell", 1, "door"), ("dwell", 1, "till"),
        ("leave", 1, "door"), ("leave", 1, "till"),
    ]  # fmt: skip
    assert [event.seconds for event in events] == pytest.approx([0, 0, 2.5, 2.5, 2.9, 3.9])


def test_a_walk_along_the_edge_of_a_zone_is_one_visit() -> None:
    frames = [[person(100 + 2 * step, zones=("door",) if step % 3 else ())] for step in range(60)]
    assert kinds(run(frames)[1]) == [("enter", 1, "door")]


def test_a_touch_of_a_zone_in_a_single_frame_is_no_visit() -> None:
    frames = [[person(100, zones=("door",) if step == 10 else ("hall",))] for step in range(60)]
    assert kinds(run(frames)[1]) == [("enter", 1, "hall")]


def test_the_event_document() -> None:
    event = Event("leave", 7.25, 3.14159, "door", 4, "person", 0, 0.87654, (1.04, 2, 3, 4))
    assert event.as_dict() == {
        "event": "leave", "zone": "door", "seconds": 3.142, "track_id": 4,
        "label": "person", "class_id": 0, "confidence": 0.8765, "box": [1.0, 2, 3, 4],
    }  # fmt: skip
    assert "zone" not in Event("enter", 0, 0, None, 1, "person", 0, 0.9, (0, 0, 1, 1)).as_dict()


def test_an_event_names_the_best_sighting_so_far_and_the_last_box() -> None:
    frames: list[Frame] = [[person(100)], [person(100, confidence=0.95)], [person(104, confidence=0.6)], *[[]] * 30]
    _, [enter, leave] = run(frames)
    assert (enter.confidence, leave.confidence) == (0.95, 0.95)
    assert leave.box == person(104).box


def test_frames_of_the_same_moment_or_before_it_break_nothing() -> None:
    tracks = tracker()
    seen = [tracks.update([person(100)], moment)[0] for moment in (10.0, 10.1, 10.1, 5.0, 10.2)]
    assert [ids(frame) for frame in seen] == [[], [1], [1], [1], [1]]


def test_a_jump_of_time_ends_all_visits_and_begins_anew() -> None:
    tracks = tracker()
    for moment in (0, 0.1, 0.2):
        tracks.update([person(100)], moment)
    told, events = tracks.update([person(100)], 86400)
    assert ids(told) == []
    assert [(event.kind, event.time) for event in events] == [("leave", 0.2)]
    assert ids(tracks.update([person(100)], 86400.1)[0]) == [2]


def test_no_frame_at_all_has_anything_for_ever() -> None:
    told, events = run([[]] * 100)
    assert events == []
    assert told == [[]] * 100


def test_boxes_without_an_area_break_nothing() -> None:
    frame = [Prediction("dot", 0, 0.9, box=(50, 50, 50, 50)), Prediction("dot", 0, 0.9, keypoints=((1, 1), (1, 9)))]
    told, _ = run([frame] * 5)
    assert all(len(one) <= 2 for one in told)


def test_the_number_of_objects_is_bounded() -> None:
    crowd = [person(60 * (number % 40), 110 * (number // 40)) for number in range(400)]
    told, events = run([crowd] * 3)
    assert len({*ids(told[2])}) == len(told[2]) == MAX_TRACKS
    assert len(events) == MAX_TRACKS


def scene(seed: int, people: int, fps: float, seconds: float) -> Iterator[tuple[Frame, dict[int, int]]]:
    """Frames of people who walk and turn back at the picture's edge, and who each prediction is of, by its row.

    A tenth of all sightings is missed, places and sizes jitter by 3 %, confidences vary, and things are seen that are
    not there.
    """
    chance = random.Random(seed)
    walkers = [
        [chance.uniform(0, 1280), chance.uniform(100, 620), chance.uniform(80, 200), chance.uniform(-150, 150)]
        for _ in range(people)
    ]
    for _ in range(int(fps * seconds)):
        frame: Frame = []
        owners: dict[int, int] = {}
        for number, walker in enumerate(walkers):
            walker[0] += walker[3] / fps
            if not 0 < walker[0] < 1280:
                walker[3] *= -1
            if chance.random() < 0.1:
                continue
            x, y, high = (chance.gauss(value, 0.03 * walker[2]) for value in walker[:3])
            owners[len(frame)] = number
            confidence = min(0.95, max(0.15, chance.gauss(0.65, 0.15)))
            frame.append(
                Prediction("person", 0, confidence, box=(x - 0.2 * high, y - high / 2, x + 0.2 * high, y + high / 2))
            )
        if chance.random() < 0.3:
            frame.append(person(chance.uniform(0, 1280), chance.uniform(0, 720), chance.uniform(0.1, 0.6)))
        yield frame, owners


@pytest.mark.parametrize(("people", "fps", "switches"), [(4, 10, 2), (4, 5, 3), (10, 10, 10)])
def test_identity_switches_among_people_who_cross_again_and_again(people: int, fps: float, switches: int) -> None:
    """Six scenes of twenty seconds each; a switch is a sighting with another number than the one before."""
    switched = sightings = 0
    for seed in range(6):
        tracks, numbers = tracker(), dict[int, int]()
        for step, (frame, owners) in enumerate(scene(seed, people, fps, 20)):
            told = {one.box: one.track_id for one in tracks.update(frame, step / fps)[0]}
            for row, owner in owners.items():
                if (number := told.get(frame[row].box)) is not None:
                    sightings += 1
                    switched += numbers.get(owner, number) != number
                    numbers[owner] = number
    print(f"{people} people, {fps} frames a second: {switched} switches in {sightings} sightings")
    assert switched <= switches


@pytest.fixture(scope="module")
def clip(data_dir: Path) -> list[Frame]:
    """What a detector sees in every second frame of a clip in which six people come and go, one by one."""
    path = data_dir / "detect_tflite" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    file = inspect.read(path)
    engine = load_engine(inspect.read(path).identity, "cpu", 2)
    [found] = families.fitting(file)
    decode = families.build(found, engine.outputs, file.labels)
    video = cv2.VideoCapture(str(data_dir / "video" / "one-by-one-person-detection.mp4"))
    frames: list[Frame] = []
    for number in itertools.count():
        there, image = video.read()
        if not there:
            return frames
        if number % 2 == 0:
            height, width = image.shape[:2]
            pixels = cv2.cvtColor(fit(np.asarray(image, np.uint8), 300, 300, "stretch"), cv2.COLOR_BGR2RGB)[None]
            whole = place(None, (0, 0), (width, height), (width, height), (300, 300), "stretch")
            frames.append(decode(engine.run([pixels]), [whole], Limits(top_k=20, min_confidence=0.2)))
    raise AssertionError


@pytest.mark.parametrize("every", [1, 2])
def test_six_people_who_come_one_by_one_are_six_and_each_leaves_once(clip: list[Frame], every: int) -> None:
    wanted = Filter(settings.Filters(labels=("person",)), Limits(top_k=20, min_confidence=0.2))
    frames = [wanted(frame, 768, 432) for frame in clip[::every]]
    _, events = run(frames, fps=5 / every)
    visits = [event for event in events if event.kind == "leave" and event.seconds > 1]
    # When each comes in and is gone again, in seconds of the clip, as seen by eye.
    by_eye = [(7, 19.5), (23.5, 44.5), (51, 69.5), (75, 86.5), (93, 119.5), (124, 135.7)]
    assert [event.track_id for event in visits] == [1, 2, 3, 4, 5, 6]
    for event, (came, went) in zip(visits, by_eye, strict=True):
        assert abs(event.time - event.seconds - came) < 1.5
        assert abs(event.time - went) < 1.5
    assert (
        len([event for event in events if event.kind == "leave"]) == len([e for e in events if e.kind == "enter"]) == 6
    )


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("across", [0.66, 0.7, 0.74])
def test_six_people_cross_a_line_on_their_way_out_of_the_picture(clip: list[Frame], across: float, every: int) -> None:
    wanted = Filter(settings.Filters(labels=("person",)), Limits(top_k=20, min_confidence=0.2))
    options = {"door": settings.Line.model_validate({"from": [across, 1], "to": [across, 0]})}
    lines, totals = Lines(options), Totals("hall", options, None)
    lines.fit(768, 432)
    tracks = Tracker(settings.Tracking(), None, lines, totals)
    frames = [wanted(frame, 768, 432) for frame in clip[::every]]
    events = itertools.chain(*(tracks.update(frame, step * every / 5)[1] for step, frame in enumerate(frames)))
    moments = [event.time for event in events if isinstance(event, Crossing)]
    # As seen by eye, in seconds of the clip.
    assert moments == pytest.approx([19, 44, 69, 86, 119, 135], abs=1)
    assert totals.at(0) == {"door": {"in": 6, "out": 0}}


def test_of_the_clip_the_place_in_front_of_the_table_is_visited_six_times(clip: list[Frame]) -> None:
    zones = {"table": ((0.4, 0.7), (0.8, 0.7), (0.8, 1.0), (0.4, 1.0))}
    wanted = Filter(settings.Filters(labels=("person",), zones=zones), Limits(top_k=20, min_confidence=0.2))
    _, events = run([wanted(frame, 768, 432) for frame in clip], fps=5, dwell=10)
    assert [event.kind for event in events if event.zone == "table"].count("dwell") == 6
    assert np.all(np.array([event.seconds for event in events if event.kind == "leave"]) > 10)
