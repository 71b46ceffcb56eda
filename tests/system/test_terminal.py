from hypothesis import given
from hypothesis import strategies as st

from edge_agent.system.terminal import printable


def test_what_can_be_seen_stays_as_it_is() -> None:
    assert printable("Küche 猫 …") == "Küche 猫 …"


def test_what_commands_a_terminal_is_spelt_out() -> None:
    assert printable("a\x1b[31m\nb\x00\x9b\u202e\ud800") == "a\\x1b[31m\\nb\\x00\\x9b\\u202e\\ud800"


@given(st.text())
def test_any_text_becomes_one_printable_line(text: str) -> None:
    assert printable(text).isprintable()
