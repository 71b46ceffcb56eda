"""The names of devices and places, as the configuration or the bundle lists them."""

from collections.abc import Iterable, Sequence

from edge_agent.settings.intents import Device, Place

LONGEST = 4


class Names:
    """Finds names in words.

    Args:
        devices: that commands may name.
        places: where they are.

    Attributes:
        words: all words of the names, in the singular and the plural.
    """

    def __init__(self, devices: Sequence[Device], places: Sequence[Place]) -> None:
        self._phrases: dict[str, Device | Place] = {}
        self.words: set[str] = set()
        for one in (*places, *devices):
            for phrase in (one.name.replace("_", " "), *one.also):
                said = phrase.lower()
                for form in (said, said.replace(" ", ""), f"{said}s", said.removesuffix("s")):
                    self._phrases.setdefault(form, one)
                self.words |= {*said.split(), f"{said}s".split()[-1]}

    def find(self, words: Sequence[str], at: int) -> tuple[Device | Place, int] | None:
        """The longest name that begins with a word, and how many words it has."""
        for length in range(min(LONGEST, len(words) - at), 0, -1):
            if found := self._phrases.get(" ".join(words[at : at + length])):
                return found, length
        return None

    def named(self, words: Sequence[str], at: int) -> Device | Place | None:
        """What the longest name that begins with a word names; None if none does."""
        found = self.find(words, at)
        return found[0] if found else None

    def measured_in(self, unit: str, devices: Iterable[Device]) -> Device | None:
        """The only device whose values have this unit; None if there is none, or more than one."""
        found = [device for device in devices if device.unit == unit]
        return found[0] if len(found) == 1 else None
