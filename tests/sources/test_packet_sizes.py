"""Whether sizes of packets tell that something moves: learned from sizes and from what a gate saw in the frames."""

import random
from collections.abc import Iterable

from edge_agent.sources.packet_sizes import EPISODES, PacketSizes

FPS, GOP, GATE_FPS = 25, 50, 5


class Stream:
    """A stream that is decoded, and looked at by a gate; something moves in it for two seconds of eight."""

    def __init__(self, sizes: PacketSizes, still: float, moving: float, spread: float = 0.2) -> None:
        self.sizes = sizes
        self.still, self.moving, self.spread = still, moving, spread
        self.number = 0
        self.alarms: list[bool] = []
        self.moves: list[bool] = []

    def run(self, seconds: float, *, episodes: bool = True, decoded: bool = True) -> None:
        for _ in range(round(seconds * FPS)):
            at = 100 + self.number / FPS
            moves = episodes and self.number % (8 * FPS) >= 6 * FPS
            is_key = self.number % GOP == 0
            size = 60_000 if is_key else (self.moving if moves else self.still)
            spread = random.Random(self.number).uniform(1 - self.spread, 1 + self.spread)
            self.alarms.append(self.sizes.add(round(size * spread), at, is_keyframe=is_key))
            self.moves.append(moves)
            if is_key or (decoded and self.number % (FPS // GATE_FPS) == 0):
                self.sizes.learn(at, moves=moves)
            self.number += 1


def share(found: Iterable[bool]) -> float:
    values = list(found)
    return sum(values) / len(values)


def test_sizes_that_rise_with_motion_tell() -> None:
    stream = Stream(PacketSizes(), still=500, moving=2000)
    stream.run(8 * (EPISODES + 3))
    assert stream.sizes.tell
    before = len(stream.alarms)
    stream.run(80)
    during = [alarm for alarm, moves in zip(stream.alarms[before:], stream.moves[before:], strict=True) if moves]
    outside = [alarm for alarm, moves in zip(stream.alarms[before:], stream.moves[before:], strict=True) if not moves]
    assert share(during) > 0.7
    assert share(outside) < 0.05


def test_an_encoder_that_keeps_its_rate_tells_nothing() -> None:
    stream = Stream(PacketSizes(), still=2000, moving=2100)
    stream.run(80)
    assert not stream.sizes.tell
    assert stream.sizes.standing.startswith("no use")
    assert not any(stream.alarms)


def test_without_motion_nothing_is_concluded() -> None:
    stream = Stream(PacketSizes(), still=500, moving=2000)
    stream.run(60, episodes=False)
    assert not stream.sizes.tell
    assert stream.sizes.standing == "learning: 0 of 3 episodes of motion seen"


def test_sizes_that_no_longer_tell_are_found_out_by_keyframes() -> None:
    stream = Stream(PacketSizes(), still=500, moving=2000)
    stream.run(8 * (EPISODES + 3))
    assert stream.sizes.tell
    stream.moving = 500  # what moves now costs the encoder nothing, and only keyframes are decoded
    for _ in range(15):
        stream.run(8, decoded=not stream.sizes.tell)
    assert not stream.sizes.tell


def test_noise_that_comes_with_the_night_is_followed() -> None:
    stream = Stream(PacketSizes(), still=500, moving=4000)
    stream.run(8 * (EPISODES + 3))
    before = len(stream.alarms)
    for step in range(40):
        stream.still = 500 + 50 * step
        stream.run(2, episodes=False, decoded=False)
    assert share(stream.alarms[before:]) < 0.05


def test_after_a_break_what_was_learned_holds() -> None:
    stream = Stream(PacketSizes(), still=500, moving=2000)
    stream.run(8 * (EPISODES + 3))
    stream.sizes.opened()
    assert stream.sizes.tell
    stream.run(10, episodes=False, decoded=False)
    assert stream.sizes.tell


def test_keyframes_that_are_no_pictures_end_it() -> None:
    stream = Stream(PacketSizes(), still=500, moving=2000)
    stream.run(8 * (EPISODES + 3))
    stream.sizes.give_up("no pictures")
    stream.run(16)
    assert not stream.sizes.tell
    assert stream.sizes.standing == "no use: no pictures"
