import itertools

from edge_agent.system.backoff import Backoff


def test_delays_double_up_to_a_ceiling() -> None:
    backoff = Backoff(first=1.0, ceiling=10.0)
    for longest in (1, 2, 4, 8, 10, 10, 10):
        assert longest / 2 <= backoff.delay() <= longest


def test_after_success_the_first_delay_is_the_next_one() -> None:
    backoff = Backoff(first=1.0, ceiling=10.0)
    for _ in range(5):
        backoff.delay()
    backoff.reset()
    assert backoff.delay() <= 1.0


def test_no_two_devices_wait_equally_long() -> None:
    delays = [Backoff().delay() for _ in range(100)]
    assert len(set(delays)) == 100
    gaps = [later - earlier for earlier, later in itertools.pairwise(sorted(delays))]
    assert max(gaps) < 0.1, "they are spread over the whole interval"
