import json
from typing import Any

import pytest

from edge_agent.commands import fleet, published
from edge_agent.commands.fleet import Fleet, Row, in_words
from edge_agent.commands.fleet_table import devices, problems, summary

INFO = {
    "pipelines": {"porch": {"source": "camera", "model": "photos"}},
    "models": {"photos": {"version": "3", "accelerator": {"in_use": "cpu", "fallback": "edgetpu: no library"}}},
}


def told(*messages: tuple[str, Any], known: Fleet | None = None, now: float = 0.0) -> Fleet:
    """A fleet that has heard these messages; documents are sent as JSON."""
    known = known or Fleet("edge")
    for topic, payload in messages:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        known.receive(f"edge/{topic}", data, now)
    return known


def stats(uptime: float, produced: int, boot: str = "a", **counts: Any) -> dict[str, Any]:
    return {"boot_id": boot, "uptime_s": uptime, "pipelines": {"porch": {"produced": produced, **counts}}}


def only(known: Fleet) -> Row:
    (row,) = known.rows()
    return row


def test_a_pipeline_is_put_together_from_all_that_its_device_says() -> None:
    result = {"predictions": [{"label": "macaw", "confidence": 0.9961}], "timing_ms": {"total": 25.58}}
    known = told(
        ("pi/status", b"online"),
        ("pi/info", INFO),
        ("pi/stats", stats(10, 50, queued=2, discarded={"expired": 1, "refused": 3})),
        ("pi/porch/result", result),
        now=7.0,
    )
    assert only(known) == Row(
        device="pi",
        status="online",
        pipeline="porch",
        results_per_s=5.0,
        last_result="macaw 100%",
        last_at=7.0,
        latency_ms=25.58,
        model="photos 3",
        accelerator="cpu",
        fallback="edgetpu: no library",
        waiting=2,
        lost=4,
    )


def test_the_rate_is_that_between_two_stats_and_before_that_since_the_start_of_the_device() -> None:
    known = told(("pi/status", b"online"), ("pi/stats", stats(100, 60, restored=10)))
    assert only(known).results_per_s == 0.5
    assert only(told(("pi/stats", stats(110, 90)), known=known)).results_per_s == 3.0
    assert only(told(("pi/stats", stats(4, 8, boot="b")), known=known)).results_per_s == 2.0


def test_a_device_that_is_away_has_no_rate() -> None:
    known = told(("pi/status", b"online"), ("pi/stats", stats(10, 50)), ("pi/status", b"offline"))
    assert (only(known).status, only(known).results_per_s, only(known).in_trouble) == ("offline", None, True)


def test_a_pipeline_that_is_not_configured_any_more_is_gone() -> None:
    known = told(("pi/status", b"online"), ("pi/stats", stats(10, 50)), ("pi/info", {"pipelines": {"hall": {}}}))
    assert [row.pipeline for row in known.rows()] == ["hall"]
    assert [row.pipeline for row in told(("pi/stats", stats(20, 50)), known=known).rows()] == ["hall"]


def test_events_are_no_pipeline() -> None:
    known = told(("pi/stats", {"boot_id": "a", "uptime_s": 1, "pipelines": {"porch": {}, "porch/event": {}}}))
    assert [row.pipeline for row in known.rows()] == ["porch"]


def test_a_device_whose_retained_messages_are_deleted_is_gone() -> None:
    known = told(("pi/status", b"online"), ("pi/info", INFO), ("pi/status", b""), ("pi/info", b""))
    assert (known.rows(), known.left_out) == ([], 0)


def test_rows_are_in_the_order_of_their_names() -> None:
    known = told(*((f"{name}/status", b"online") for name in ("c", "a", "b")))
    assert [row.device for row in known.rows()] == ["a", "b", "c"]


def test_it_is_known_when_every_device_has_told_its_counters() -> None:
    known = told(("pi/status", b"online"), ("old/status", b"offline"))
    assert not known.has_stats()
    assert told(("pi/stats", stats(1, 1)), known=known).has_stats()


@pytest.mark.parametrize(
    ("predictions", "words"),
    [
        ([], "nothing"),
        ([{"label": "cat", "confidence": 0.5}], "cat 50%"),
        ([{"label": name, "box": [0, 0, 1, 1]} for name in ("person", "bus", "person")], "2 person, 1 bus"),
        ([{"label": name, "box": [0, 0, 1, 1]} for name in "abcde"], "1 a, 1 b, 1 c, …"),
        ([{"label": "7", "region": "d1"}, {"label": "1", "region": "d1"}, {"label": "3", "region": "d2"}], "7 3"),
        ([{"label": "bird", "area": 44935}], "1 bird"),
        ([{"label": "level", "value": 0.25}], "level 0.25"),
        ([{"vector": [0.1, 0.2, 0.3]}], "vector of 3"),
        ([{"text": "Once upon\na time"}], "Once upon\\na time"),
        ([{"label": "x" * 100, "confidence": 1}], "x" * 59 + "…"),
        ("no list", "nothing"),
        ([1, None, "x"], "nothing"),
        ([{}], ""),
    ],
)
def test_a_result_is_said_in_a_few_words(predictions: Any, words: str) -> None:
    assert in_words({"predictions": predictions}) == words


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("pi/status", b"perhaps"),
        ("pi/info", b"{"),
        ("pi/info", b"\xff\xfe"),
        ("pi/info", b"[" * 100_000),
        ("pi/info", b"9" * 10_000),
        ("pi/stats", b"[1]"),
        ("pi/stats", b'{"a": "' + b"x" * published.MAX_PAYLOAD + b'"}'),
        ("pi/cmd", b"{}"),
        ("pi", b"online"),
        ("", b"online"),
        (f"{'x' * 65}/status", b"online"),
        ("p\x1b[2J/status", b"online"),
        ("$SYS/status", b"online"),
    ],
)
def test_what_makes_no_sense_is_counted_and_left_out(topic: str, payload: bytes) -> None:
    known = told((topic, payload))
    assert (known.rows(), known.left_out) == ([], 1)


def test_names_that_would_be_a_wildcard_or_move_the_cursor_are_left_out() -> None:
    names: dict[str, Any] = {"#": {}, "+": {}, "a/b": {}, "\x1b[2J": {}, "x" * 65: {}, "": {}, "good": {}}
    known = told(("pi/status", b"online"), ("pi/info", {"pipelines": names}))
    assert [known.result_topic(row) for row in known.rows()] == ["edge/pi/good/result"]


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"NaN", b"1" + b"0" * 4000, b'"5"', b"true", b"null", b"{}"])
def test_numbers_that_can_not_be_are_unknown(number: bytes) -> None:
    counts = b'{"produced": %s, "queued": %s, "discarded": {"x": %s}}' % (number, number, number)
    result = b'{"predictions": [{"label": "cat", "confidence": %s}], "timing_ms": {"total": %s}}' % (number, number)
    document = b'{"boot_id": %s, "uptime_s": %s, "pipelines": {"porch": %s}}' % (number, number, counts)
    known = told(("pi/status", b"online"), ("pi/stats", document), ("pi/porch/result", result))
    row = only(known)
    assert (row.results_per_s, row.latency_ms, row.waiting, row.lost, row.last_result) == (None, None, 0, 0, "cat")


def test_documents_of_another_shape_are_no_reason_to_fail() -> None:
    odd: list[Any] = [{}, {"pipelines": []}, {"pipelines": {"p": 1}}, {"pipelines": {"p": {"model": []}}, "models": 1}]
    for document in odd:
        known = told(("pi/status", b"online"), ("pi/info", document), ("pi/stats", document), ("pi/p/result", document))
        assert [row.device for row in known.rows()] == ["pi"]


def test_there_is_room_for_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MAX_ROWS", 10)
    known = told(*((f"pi-{number}/status", b"online") for number in range(20)))
    told(("pi-1/info", {"pipelines": {str(number): {} for number in range(20)}}), known=known)
    assert len(known.rows()) == 10
    assert known.left_out == 10
    assert known.full
    told(("pi-1/status", b""), ("new/status", b"online"), known=known)
    assert "new" in {row.device for row in known.rows()}


def test_pipelines_for_which_there_is_no_room_are_known_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MAX_ROWS", 3)
    known = told(("pi/status", b"online"), ("pi/info", {"pipelines": {"a": {}, "b": {}}}))
    before = known.full
    told(("pi/info", {"pipelines": {"a": {}, "b": {}, "c": {}}}), known=known)
    assert (before, known.full) == (False, True)
    assert "which are not shown" in summary(known.rows(), known.rows(), 0, full=known.full)[0]


def test_why_an_update_or_a_check_has_failed_is_shown_of_each_device() -> None:
    model = {"step": "undecided", "version": "birds/3", "reason": "0 of 50 samples"}
    known = told(
        ("fails/status", b"online"),
        ("fails/update", {"error": "the list has expired", "models": {"photos": model | {"step": "idle"}}}),
        ("undecided/status", b"online"),
        ("undecided/info", {"pipelines": {"porch": {}, "yard": {}}}),
        ("undecided/update", {"error": None, "models": {"photos": model}}),
        ("well/update", {"error": None, "models": {"photos": model | {"step": "committed", "reason": None}}}),
        ("odd/update", {"error": 7, "models": ["photos"]}),
    )
    assert known.left_out == 0
    rows = {row.device: row for row in known.rows()}
    assert [rows[name].update for name in ("fails", "undecided", "well", "odd")] == [
        "photos: idle birds/3",
        "photos: undecided birds/3",
        "photos: committed birds/3",
        "",
    ]
    assert problems(known.rows(), 10) == [
        "fails update: the list has expired",
        "undecided update: photos: undecided birds/3: 0 of 50 samples",
    ]
    assert rows["fails"].in_trouble
    (shown,) = [device for device in devices(known.rows(), 0.0) if device["device_id"] == "fails"]
    assert shown["update_problem"] == "the list has expired"
    told(("fails/update", b""), known=known)  # deleted
    assert known.left_out == 0
