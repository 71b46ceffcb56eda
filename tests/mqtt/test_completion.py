import pytest

from edge_agent.mqtt.delivery import Delivery
from edge_agent.mqtt.reasons import Refusal
from edge_agent.samples import ReplyTo

QUOTA = Refusal("Quota exceeded", for_now=True)


class Sent:
    """A result with three copies, and how often it was reported as complete."""

    def __init__(self) -> None:
        self.completed: list[Refusal | None] = []
        document = {"seq": 1}
        delivery = Delivery("lab", "result", document, extra_topic="extra", reply_to=ReplyTo("reply", b"id"))
        self.copies = delivery.copies(lambda _, refusal: self.completed.append(refusal))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_result_is_complete_once_when_every_copy_is_acknowledged(order: tuple[int, ...]) -> None:
    sent = Sent()
    for place in order:
        assert not sent.completed
        sent.copies[place].acknowledged(None)
    assert sent.completed == [None]


def test_the_copy_on_the_result_topic_decides_whether_the_result_is_refused() -> None:
    sent = Sent()
    for copy, refusal in zip(sent.copies, (QUOTA, None, None), strict=True):
        copy.acknowledged(refusal)
    assert sent.completed == [QUOTA]


def test_other_copies_that_are_refused_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    sent = Sent()
    for copy, refusal in zip(sent.copies, (None, QUOTA, QUOTA), strict=True):
        copy.acknowledged(refusal)
    assert sent.completed == [None]
    assert "extra: a copy of a result is refused: Quota exceeded" in caplog.text
    assert "reply: a copy of a result is refused: Quota exceeded" in caplog.text


def test_each_attempt_counts_for_itself() -> None:
    delivery, completed = Delivery("lab", "result", {"seq": 1}), []
    first, second = (delivery.copies(lambda *_: completed.append(1))[0] for _ in range(2))
    first.acknowledged(None)
    second.acknowledged(None)
    assert completed == [1, 1]
