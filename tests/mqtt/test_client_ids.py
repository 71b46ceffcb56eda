from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.mqtt import client_ids

NAMES = st.text(st.sampled_from("ab-0123456789home-assistant"), min_size=1, max_size=12)
SOURCES = st.tuples(NAMES, NAMES, st.sampled_from(["in/#", "x"]))


@given(SOURCES, SOURCES)
@example(("porch", "pi-lab", "in/#"), ("porch-pi", "lab", "in/#"))
@example(("a", "b-c", "x"), ("a-b", "c", "x"))
def test_different_sources_have_different_ids(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (client_ids.of_source(*one) == client_ids.of_source(*other)) == (one == other)


@given(NAMES, SOURCES)
@example("x-home-assistant", ("x", "lab", "x"))
def test_no_device_has_the_id_of_another_session(device: str, source: tuple[str, str, str]) -> None:
    for made in (client_ids.of_source(*source), client_ids.of_home_assistant(source[0])):
        assert client_ids.of_device(device) != made
        assert client_ids.of_device(made.removeprefix("edge-agent-")) != made


def test_ids_without_a_separator_in_a_name_are_those_of_earlier_versions() -> None:
    assert client_ids.of_device("porch") == "edge-agent-porch"
    assert client_ids.of_source("porch", "lab", "in/#") == "edge-agent-porch-lab-9558c8a0"
    assert client_ids.of_home_assistant("porch-pi") == "edge-agent-porch-pi-home-assistant"
