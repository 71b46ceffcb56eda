import numpy as np
import pytest

from edge_agent.language.sampling import Sampler

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def picks(sampler: Sampler, count: int = 4000) -> list[float]:
    """How often each token is picked."""
    numbers = [sampler.pick(LOGITS) for _ in range(count)]
    return [numbers.count(token) / count for token in range(4)]


def test_without_temperature_the_likeliest_token_is_picked() -> None:
    assert picks(Sampler(0, 40, 1, None), 10) == [1, 0, 0, 0]


def test_tokens_are_picked_as_often_as_they_are_likely() -> None:
    assert picks(Sampler(1, 40, 1, 1)) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)


def test_a_high_temperature_makes_them_more_alike() -> None:
    assert picks(Sampler(100, 40, 1, 1)) == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize(
    ("top_k", "top_p", "expected"),
    [
        (2, 1, [0.625, 0.375, 0, 0]),
        (1, 1, [1, 0, 0, 0]),
        (40, 0.6, [0.625, 0.375, 0, 0]),
        (40, 0.4, [1, 0, 0, 0]),
        (40, 0.94, [0.526, 0.316, 0.158, 0]),
    ],
)
def test_unlikely_tokens_are_left_out(top_k: int, top_p: float, expected: list[float]) -> None:
    assert picks(Sampler(1, top_k, top_p, 1)) == pytest.approx(expected, abs=0.03)


def test_the_same_seed_picks_the_same_tokens() -> None:
    first, second, other = (Sampler(2, 40, 1, seed) for seed in (5, 5, 6))
    said = [[sampler.pick(LOGITS) for _ in range(50)] for sampler in (first, second, other)]
    assert said[0] == said[1] != said[2]


def test_what_must_not_come_is_never_picked() -> None:
    logits = np.array([-np.inf, 0, -np.inf, 0], np.float32)
    sampler = Sampler(2, 40, 1, 1)
    assert {sampler.pick(logits) for _ in range(200)} == {1, 3}
