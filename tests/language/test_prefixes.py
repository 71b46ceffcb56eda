from collections.abc import Sequence

import numpy as np
import pytest

from edge_agent.errors import InputError, ModelError
from edge_agent.language import CHUNK
from edge_agent.language.genai import GenaiEngine, load
from edge_agent.language.prefixes import CachedSession, PrefixCache
from tests.language.model_files import write_model

PROMPT = [*range(10, 10 + 3 * CHUNK)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> GenaiEngine:
    return load(write_model(tmp_path_factory.mktemp("model")), threads=1, context=512)


def read(cache: PrefixCache, tokens: list[int], *, exact: bool = False) -> tuple[int, np.ndarray]:
    """How many tokens were not read again, and the output after the last one."""
    with cache.use(tokens, exact=exact) as kept:
        cached = len(kept.tokens)
        while len(kept.tokens) < len(tokens):
            extend(cache, kept, kept.chunk(tokens))
        return cached, kept.logits()


def extend(cache: PrefixCache, kept: CachedSession, tokens: Sequence[int], *, alone: bool = True) -> None:
    cache._engine.extend([(kept.session, tokens)])
    kept.has_read(tokens, alone=alone)


def test_what_begins_alike_is_read_once_and_gives_the_same_output(engine: GenaiEngine) -> None:
    cache = PrefixCache(engine, engine.session_size)
    assert read(cache, [*PROMPT, 5, 6])[0] == 0
    cached, output = read(cache, [*PROMPT, 7, 8, 9])
    assert cached == len(PROMPT)
    assert output == pytest.approx(read(PrefixCache(engine, engine.session_size), [*PROMPT, 7, 8, 9])[1], abs=1e-4)


def test_the_last_token_is_always_read(engine: GenaiEngine) -> None:
    cache = PrefixCache(engine, engine.session_size)
    read(cache, PROMPT)
    assert read(cache, PROMPT)[0] == len(PROMPT) - 1
    assert read(cache, PROMPT[:20])[0] == 19


def test_an_exact_output_is_the_same_to_the_last_bit_whatever_was_read_before(engine: GenaiEngine) -> None:
    tokens = [*PROMPT, 7, 8, 9]
    _, fresh = read(PrefixCache(engine, engine.session_size), tokens, exact=True)
    cache = PrefixCache(engine, engine.session_size)
    with cache.use([*PROMPT[:100], 5], exact=False) as kept:
        for start, end in ((0, 64), (64, 100)):
            extend(cache, kept, PROMPT[start:end])
        for token in tokens[101:150]:
            extend(cache, kept, [token])
    cached, again = read(cache, tokens, exact=True)
    assert cached == CHUNK
    assert np.array_equal(again, fresh)


def test_conversations_that_begin_differently_are_kept_within_the_bound(engine: GenaiEngine) -> None:
    cache = PrefixCache(engine, 2 * engine.session_size)
    talks = [[start, *PROMPT] for start in (1, 2, 3)]
    assert [read(cache, talk)[0] for talk in talks] == [0, 0, 0]
    assert [read(cache, talk)[0] for talk in (talks[2], talks[1])] == [len(PROMPT)] * 2
    assert read(cache, talks[0])[0] == 0  # it had to make room


def test_a_bound_that_holds_no_session_is_refused_with_the_numbers(engine: GenaiEngine) -> None:
    with pytest.raises(ModelError, match=r"512 tokens of context take 364\.5 kB, and cache_size is 1\.0 kB"):
        PrefixCache(engine, 1000)


def test_what_was_read_beside_others_is_read_again_for_an_exact_output(engine: GenaiEngine) -> None:
    cache = PrefixCache(engine, engine.session_size)
    with cache.use(PROMPT, exact=False) as kept:
        extend(cache, kept, PROMPT[:CHUNK])
        extend(cache, kept, PROMPT[CHUNK : 2 * CHUNK], alone=False)
        extend(cache, kept, PROMPT[2 * CHUNK :])
    assert read(cache, PROMPT, exact=True)[0] == CHUNK


def test_a_session_that_is_in_use_is_no_other_ones(engine: GenaiEngine) -> None:
    cache = PrefixCache(engine, 3 * engine.session_size)
    with cache.use(PROMPT, exact=False) as one, cache.use(PROMPT, exact=False) as other:
        assert (one.number, other.number) == (0, 1)
    with cache.use([9, *PROMPT], exact=False) as new, cache.use([8, *PROMPT], exact=False) as beside:
        assert (new.number, beside.number) == (2, 1)  # one that borders on the other, though 0 is older


def test_a_session_goes_on_after_a_fault_of_a_request_and_is_dropped_after_one_of_the_model(
    engine: GenaiEngine,
) -> None:
    cache = PrefixCache(engine, engine.session_size)
    for error, cached in ((InputError, len(PROMPT) - 1), (ModelError, 0)):
        read(cache, PROMPT)
        with pytest.raises(error), cache.use(PROMPT, exact=False):
            raise error("no")
        assert read(cache, PROMPT)[0] == cached
