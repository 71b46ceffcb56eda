"""Files as a bad memory card, a broken download or an attacker leaves them: the same seed, the same damage."""

import random

_HEAD, _TAIL = 2048, 8192
_NUMBERS = (0, 1, 2, 3, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_COUNTS = (1, 1, 2, 4, 16)


def mutated(content: bytes, seed: int) -> bytes:
    """A damaged copy: some bits flipped, some numbers overwritten, cut off, or a piece lost or doubled.

    Headers and tables stand near the beginning or the end of most formats, so two thirds of the damage is done there.
    """
    rng = random.Random(seed)
    data = bytearray(content)
    match rng.randrange(10):
        case 0 | 1 | 2 | 3 | 4:
            for _ in range(rng.choice(_COUNTS)):
                data[_place(rng, len(data))] ^= 1 << rng.randrange(8)
        case 5 | 6:
            for _ in range(rng.choice(_COUNTS)):
                at, width = _place(rng, len(data)), rng.choice((1, 2, 4))
                number = rng.choice((*_NUMBERS, rng.getrandbits(32))) % 256**width
                data[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
        case 7 | 8:
            del data[rng.randrange(len(data)) :]
        case _:
            start, length = _place(rng, len(data)), rng.randrange(1, 512)
            data[start : start + length] = rng.choice((b"", bytes(data[start : start + length]) * 2))
    return bytes(data)


def _place(rng: random.Random, length: int) -> int:
    match rng.randrange(3):
        case 0:
            return rng.randrange(length)
        case 1:
            return rng.randrange(min(_HEAD, length))
        case _:
            return length - 1 - rng.randrange(min(_TAIL, length))
