"""What goes to a broker as a topic, and that a real broker accepts all of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from paho.mqtt.client import MQTTMessage, topic_matches_sub

from edge_agent import settings
from edge_agent.config import loader
from edge_agent.errors import ConfigError
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session, Subscription
from edge_agent.mqtt.reasons import Refusal
from edge_agent.publish.policy import topic_of
from edge_agent.samples import Prediction
from edge_agent.settings import topics
from tests.broker import Mosquitto, wait_until

FORBIDDEN = "\0\x01\x1f\x7f\x80\x85\x9d\x9f\ud800\udfff\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0010ffff"
CHARACTERS = st.one_of(st.characters(), st.sampled_from(FORBIDDEN + "/+#$ {}"))
TEXTS = st.text(CHARACTERS, max_size=40)


@pytest.mark.parametrize("character", FORBIDDEN)
def test_a_character_at_which_brokers_close_the_connection_is_accepted_nowhere(character: str) -> None:
    text = f"a{character}b"
    for problem_of in (topics.problem_of_text, topics.problem_of_name, topics.problem_of_filter):
        assert problem_of(text) == f"must not hold the character U+{ord(character):04X}"
    assert topics.as_level(text) == "a_b"
    for key in ("device_id", "username"):
        values: dict[str, Any] = {"device_id": text} if key == "device_id" else {"mqtt": {"username": text}}
        with pytest.raises(ValueError, match=key):
            settings.Settings.model_validate(values)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a/b", ""),
        ("ä/€/\U0001f600", ""),
        ("", "empty"),
        ("a/+", "wildcards"),
        ("a#", "wildcards"),
        ("$SYS", "must not begin with $"),
        ("$share/g/x", "must not begin with $"),
        ("x" * 65_535, ""),
        ("ä" * 32_768, "65535 bytes"),
        ("/".join("x" * 200), ""),
        ("/".join("x" * 201), "200 levels"),
    ],
)
def test_names(name: str, problem: str) -> None:
    assert problem in topics.problem_of_name(name)
    assert bool(problem) == bool(topics.problem_of_name(name))


@pytest.mark.parametrize(
    ("topic_filter", "problem"),
    [
        ("#", ""),
        ("a/+/b/#", ""),
        ("$SYS/broker/#", ""),
        ("a/#/b", "last level"),
        ("a#", "last level"),
        ("a+/b", "whole level"),
        ("$share", "share: GROUP"),
        ("$share/g/#", "share: GROUP"),
        ("$queue/x", "something else"),
        ("/".join("x" * 199), "198 levels"),
    ],
)
def test_filters(topic_filter: str, problem: str) -> None:
    assert problem in topics.problem_of_filter(topic_filter)
    assert bool(problem) == bool(topics.problem_of_filter(topic_filter))


@given(
    st.text(CHARACTERS), st.sampled_from(["x/{label}", "{label}", "{label}/{label}", "{device_id}{label}{pipeline}"])
)
@example("$SYS", "{label}")
@example("$share/g/x", "{label}")
@example("", "{label}")
@example("a\x85", "x/{label}")
def test_a_label_never_makes_a_topic_that_a_broker_refuses(label: str, template: str) -> None:
    topic = topic_of(template, "porch", "lab", [Prediction(label, 0, 0.5)])
    assert topics.problem_of_name(topic) == ""


def test_many_long_labels_in_one_topic() -> None:
    topic = topic_of("{label}" * 146, "porch", "lab", [Prediction("\U0001f600" * 100_000, 0, 0.5)])
    assert topics.problem_of_name(topic) == ""


LEVELS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4)
FILTERS = st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=4)


@given(FILTERS, st.booleans(), LEVELS)
def test_overlap_is_what_mqtt_calls_a_match(wanted: list[str], rest: bool, levels: list[str]) -> None:
    topic_filter, topic = "/".join([*wanted, "#"] if rest else wanted), "/".join(levels)
    assert topics.overlap(topic_filter, topic) == topic_matches_sub(topic_filter, topic)


OWN = {
    "#": "edge/porch/lab/result",
    "edge/#": "edge/porch/lab/result",
    "edge/porch/lab/+": "edge/porch/lab/result",
    "+/+/+/result": "edge/porch/lab/result",
    "edge/+/lab/error": "edge/porch/lab/error",
    "edge/porch/lab/result/stream": "edge/porch/lab/result/stream",
    "edge/+/+/event": "edge/porch/lab/event",
    "+/porch/other/snapshot": "edge/porch/other/snapshot",
    "edge/+/status": "edge/porch/status",
    "edge/porch/info": "edge/porch/info",
    "edge/porch/+": "edge/porch/status",
    "edge/+/stats": "edge/porch/stats",
    "edge/+/accelerator": "edge/porch/accelerator",
    "edge/+/update": "edge/porch/update",
    "edge/porch/cmd/#": "edge/porch/cmd/reply",
    "homeassistant/#": "homeassistant/device/{label}/config",
    "found/porch/other/cat": "found/porch/other/{label}",
    "found/+/+/in-cat": "found/porch/other/{label}",
    "out/x-cat-y": "out/x-{label}-y",
}
NOT_OWN = [
    "in/#",
    "+/in",
    "edge/garage/#",
    "edge/porch/lab/in",
    "edge/porch/cmd",
    "edge/+/+/in",
    "found/porch/other",
    "out/x-y",
    "out/x-cat-z",
    "homeassistant/status",
]


def _load(folder: Path, topic_filter: str, **source: Any) -> loader.Config:
    pipelines = {
        "lab": {"source": {"type": "mqtt", "topic": topic_filter, **source}, "model": "m"},
        "other": {
            "source": {"type": "mqtt", "topic": "in/other"},
            "model": "m",
            "publish": {"topic": "found/{device_id}/{pipeline}/{label}"},
        },
        "third": {
            "source": {"type": "mqtt", "topic": "in/third"},
            "model": "m",
            "publish": {"topic": "out/x-{label}-y"},
        },
    }
    sections = {"models": {"m": {"path": "m.tflite"}}, "home_assistant": {"enabled": True}}
    file = folder / "agent.yaml"
    file.write_text(yaml.safe_dump({"device_id": "porch", "pipelines": pipelines, **sections}))
    return loader.load(file)


@pytest.mark.parametrize("share", [{}, {"share": "g"}])
@pytest.mark.parametrize("topic_filter", OWN)
def test_a_source_that_matches_a_topic_of_its_own_agent_is_refused(
    tmp_path: Path, topic_filter: str, share: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="on which this agent publishes") as refused:
        _load(tmp_path, topic_filter, **share)
    [problem] = refused.value.problems
    assert f"pipelines.lab.source.topic: matches {OWN[topic_filter]}, on which" in problem


@pytest.mark.parametrize("topic_filter", NOT_OWN)
def test_other_sources_are_not_refused(tmp_path: Path, topic_filter: str) -> None:
    assert _load(tmp_path, topic_filter).settings.pipelines


@pytest.mark.parametrize(
    ("topic", "taken"),
    [
        ("edge/porch/status", "edge/porch/status"),
        ("edge/{device_id}/{pipeline}/result", "edge/porch/lab/result"),
        ("edge/porch/{label}", "edge/porch/status"),
        ("edge/porch/lab/{label}", "edge/porch/lab/result"),
        ("edge/porch/lab/labels", ""),
        ("house/{label}", ""),
    ],
)
def test_results_go_to_no_topic_of_the_agent_s_own_documents(tmp_path: Path, topic: str, taken: str) -> None:
    file = tmp_path / "agent.yaml"
    (tmp_path / "m.tflite").touch()
    lab = {"source": {"type": "mqtt", "topic": "t"}, "model": "m", "publish": {"topic": topic}}
    sections = {"device_id": "porch", "models": {"m": {"path": "m.tflite"}}, "pipelines": {"lab": lab}}
    file.write_text(yaml.safe_dump(sections))
    if not taken:
        assert loader.load(file).settings.pipelines
        return
    with pytest.raises(ConfigError, match=f"publish.topic: is {taken}, on which this agent publishes"):
        loader.load(file)


class Peer:
    """A connection whose acknowledgements are recorded."""

    def __init__(self, broker: Mosquitto) -> None:
        self.links: list[Link] = []
        self.received: list[str] = []
        self.answers: dict[int, Refusal | None] = {}
        endpoint = Endpoint.from_settings(settings.Mqtt(url=broker.url), Path())
        session = Session("topics", subscriptions=(Subscription("#", 1),))
        self.connection = Connection(
            endpoint,
            session,
            on_up=self.links.append,
            on_message=self._received,
            on_acknowledged=self.answers.__setitem__,
        )

    def _received(self, link: Link, message: MQTTMessage) -> None:
        self.received.append(message.topic)
        link.ack(message.mid, message.qos)


@pytest.fixture(scope="module")
def peer(broker: Mosquitto) -> Iterator[Peer]:
    peer = Peer(broker)
    peer.connection.start()
    assert peer.connection.wait_until_subscribed(10)
    yield peer
    peer.connection.stop(5)


@hypothesis_settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS)
@example("x" * 65_535)
@example("/".join("x" * 200))
@example("/".join("x" * 201))
@example("a\ufdd0")
@example("a\x9d")
@example("$SYS")
@example("$share/g/x")
def test_a_real_broker_keeps_the_connection_at_every_topic_that_is_accepted(peer: Peer, topic: str) -> None:
    link = peer.links[-1]
    if topics.problem_of_name(topic):
        with pytest.raises(ValueError, match="the topic must"):
            link.publish(topic, b"", 1)
        return
    message_id = link.publish(topic, b"1", 1)
    assert message_id is not None
    wait_until(lambda: message_id in peer.answers, 10, "the acknowledgement")
    assert peer.answers.pop(message_id) is None
    wait_until(lambda: topic in peer.received, 10, "the message")
    assert len(peer.links) == 1, "the connection was never lost"


@hypothesis_settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(TEXTS, st.sampled_from(["+", "#", "$share", ""])), min_size=1, max_size=5), st.booleans())
def test_a_real_broker_keeps_the_connection_at_every_filter_that_is_accepted(
    peer: Peer, levels: list[str], shared: bool
) -> None:
    topic_filter = "/".join(levels)
    if topics.problem_of_filter(topic_filter):
        return
    link = peer.links[-1]
    Session("", subscriptions=(Subscription(f"$share/g/{topic_filter}" if shared else topic_filter, 0),)).subscribe(
        "5", link.client
    )
    message_id = link.publish("after", b"1", 1)
    assert message_id is not None
    wait_until(lambda: message_id in peer.answers, 10, "the connection goes on")
    assert len(peer.links) == 1
