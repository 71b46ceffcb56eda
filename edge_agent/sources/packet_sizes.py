"""Whether the sizes of a stream's packets tell that something moves.

An encoder that keeps its quality spends few bytes on a still scene and many on a moving one. One that keeps its rate
spends as many on both. So nothing is assumed: what the sizes say is compared with what the motion gate sees in the
decoded frames, all the time at which there are any.
"""

import statistics
from collections import deque

# Packets within this many seconds count together: encoders spend unlike amounts on unlike kinds of frames.
_TOGETHER = 0.25
# Seconds between two looks at the sizes that are kept, and how many are kept: ten minutes.
_EVERY, _KEPT = 0.2, 3000
# Sizes that a still scene must have shown, and episodes of motion, before anything is concluded.
_ENOUGH, EPISODES = 75, 3
# The sizes must have shown this share of that many last episodes. The others are seen at the next keyframe.
_JUDGED, _SHOWN = 10, 0.8
# What is usual are the sizes of the last 5 seconds without motion: light that drifts changes them slowly.
_USUAL = 25
# A size is above those of a still scene when it is above this quantile of them, by this factor.
_QUANTILE, _ABOVE = 0.98, 1.1
# Sizes that wait for the gate's next look, at most: of a minute.
_UNKNOWN = 300
# Seconds around the beginning of an episode in which the sizes must tell of it, and without motion between two.
_BEFORE, _AFTER, _APART = 0.5, 1.0, 2.0


class PacketSizes:
    """Learns the sizes of packets in a still scene, and whether those in a moving one are above them.

    Attributes:
        tell: whether they are, so that frames need not be decoded to see that nothing moves.
        standing: `learning`, `tell`, or why they don't tell.
    """

    def __init__(self) -> None:
        self.tell = False
        self.standing = f"learning: 0 of {EPISODES} episodes of motion seen"
        # Ratios of sizes in a still scene to their median, and the sizes.
        self._still: deque[float] = deque(maxlen=_KEPT)
        self._sizes: deque[float] = deque(maxlen=_USUAL)
        self._episodes: deque[float] = deque(maxlen=_JUDGED)
        self._usual = 1.0
        self._threshold = float("inf")
        self._concluded = 0.0
        self._given_up = False
        self.opened()

    def opened(self) -> None:
        """Called when the stream has been opened, for the first time or again."""
        self._window: deque[tuple[float, int]] = deque()
        self._recent: deque[tuple[float, float]] = deque()
        # Sizes since the gate last looked, of which nobody knows yet whether something moved.
        self._unknown: list[tuple[float, float]] = []
        self._first: float | None = None
        self._moved: float | None = None
        self._episode: float | None = None

    def add(self, size: int, at: float, *, is_keyframe: bool) -> bool:
        """Takes the size of a packet; returns whether it tells of motion, where sizes tell.

        Args:
            size: in bytes.
            at: when it came, in seconds.
            is_keyframe: of a keyframe, whose size tells nothing.
        """
        if self._first is None:
            self._first = at
        if is_keyframe:
            return False
        self._window.append((at, size))
        while self._window[0][0] < at - _TOGETHER:
            self._window.popleft()
        mean = sum(size for _, size in self._window) / len(self._window)
        ratio = mean / self._usual if self._sizes else 1.0
        self._recent.append((at, ratio))
        while self._recent[0][0] < at - _BEFORE:
            self._recent.popleft()
        if not self._unknown or at - self._unknown[-1][0] >= _EVERY:
            self._unknown.append((at, mean))
            del self._unknown[:-_UNKNOWN]
        if self._episode is not None and at - self._episode < _AFTER:
            self._episodes[-1] = max(self._episodes[-1], ratio)
        return self.tell and ratio > self._threshold

    def learn(self, at: float, *, moves: bool) -> None:
        """Takes what the gate has seen.

        Args:
            at: when the frame came, in seconds.
            moves: whether something moves in it.
        """
        if self._first is None or at < self._first + _AFTER:
            return  # to the gate, the first frame is news
        unknown, self._unknown = self._unknown, []
        if moves:
            if self._moved is None or at - self._moved > _APART:
                self._episode = at
                self._episodes.append(max((ratio for _, ratio in self._recent), default=0.0))
            self._moved = at
        elif self._moved is None or at - self._moved > _APART:
            for _, mean in unknown:
                self._still.append(mean / self._usual)
                self._sizes.append(mean)
                self._usual = max(1.0, statistics.median(self._sizes))
        if (self._episode is None or at - self._episode > _AFTER) and at - self._concluded >= _AFTER:
            self._concluded = at
            self._conclude()

    def give_up(self, why: str) -> None:
        """They are of no use in this stream, whatever they say."""
        self._given_up, self.tell, self.standing = True, False, f"no use: {why}"

    def _conclude(self) -> None:
        if self._given_up:
            return
        if len(self._still) < _ENOUGH or len(self._episodes) < EPISODES:
            self.standing = f"learning: {min(len(self._episodes), EPISODES)} of {EPISODES} episodes of motion seen"
            return
        self._threshold = sorted(self._still)[int(len(self._still) * _QUANTILE)] * _ABOVE
        missed = sum(peak <= self._threshold for peak in self._episodes)
        self.tell = missed <= len(self._episodes) * (1 - _SHOWN)
        self.standing = "tell" if self.tell else f"no use: {missed} of {len(self._episodes)} episodes don't show"
