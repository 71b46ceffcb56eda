import pytest

from edge_agent.pipeline.throttle import Throttle


def taken(factor: float, *, fps: float, spent: float, seconds: float = 20.0, uneven: float = 0.0) -> float:
    """Frames a second that are taken of a camera, with a model that is busy for so long with each."""
    throttle, free, count = Throttle(lambda: factor), 0.0, 0
    for number in range(round(fps * seconds)):
        captured = 100 + (number + uneven * (number % 3)) / fps
        # A model that has no room for a frame has it superseded, before it is asked for. Slowed down, it has room.
        if captured < free and factor == 1:
            continue
        if throttle.admits(captured):
            free = captured + spent
            throttle.spent(spent)
            count += 1
    return count / seconds


@pytest.mark.parametrize("uneven", [0.0, 0.1])
@pytest.mark.parametrize(("fps", "spent"), [(30, 0.005), (30, 0.1), (5, 0.1)])
@pytest.mark.parametrize("factor", [0.5, 0.25])
def test_the_share_is_one_of_the_work_whether_camera_or_model_is_the_slower_one(
    factor: float, fps: float, spent: float, uneven: float
) -> None:
    usual = taken(1, fps=fps, spent=spent, uneven=uneven)
    slowed = taken(factor, fps=fps, spent=spent, uneven=uneven)
    assert slowed / usual == pytest.approx(factor, rel=0.25)


def test_an_interruption_of_the_source_does_not_count() -> None:
    throttle = Throttle(lambda: 0.5)
    times = [1.0, 1.1, 1.2, 61.2, 61.3, 61.4, 61.5]
    assert [time for time in times if throttle.admits(time)][-2:] == [61.2, 61.4]
