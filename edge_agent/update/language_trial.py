"""The trial of a new version of a language model, beside the active one: golden prompts, tokens a second, memory.

There is no shadow run: two models that write the same in other words can't be compared by their texts, and a second
answer to each request would double the time that a small device needs for it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from edge_agent.errors import InputError, ModelError
from edge_agent.language.generation import Answer
from edge_agent.language.request import ask
from edge_agent.models.bundle import GoldenText
from edge_agent.models.language import LanguageModel
from edge_agent.settings.text import Generation
from edge_agent.update.host import RefusedError


def compare(
    model: LanguageModel, active: LanguageModel, max_slowdown: float, check_stop: Callable[[], None]
) -> dict[str, Any]:
    """Has both versions answer the golden prompts of the new one; those were right already when it was loaded.

    Args:
        model: the new version.
        active: the one that serves; requests to it wait for an answer of each prompt.
        max_slowdown: largest ratio of their tokens a second.
        check_stop: called before each prompt; raises to cancel.

    Returns:
        What is published: prompts, tokens a second and megabytes of both.

    Raises:
        RefusedError: the new version has no golden prompts, fails at one, or is too slow.
    """
    prompts = model.source.golden
    if not prompts:
        raise RefusedError("its bundle has no golden_text, so nothing shows that it answers as it should")
    try:
        rate = tokens_per_second(model, prompts, check_stop)
    except (ModelError, InputError) as error:
        raise RefusedError(str(error)) from None
    try:
        before = tokens_per_second(active, prompts, check_stop)
    except (ModelError, InputError):  # the active version can't answer them: nothing to compare with
        before = None
    if rate is not None and before is not None and rate * max_slowdown < before:
        raise RefusedError(
            f"it gives {rate:.1f} tokens per second, the active version {before:.1f}: more than {max_slowdown:g} times "
            "as slow"
        )
    return {
        "prompts": len(prompts),
        "tokens_per_s": rate and round(rate, 1),
        "active_tokens_per_s": before and round(before, 1),
        "memory_mb": round(model.engine.resident / 1e6, 1),
        "active_memory_mb": round(active.engine.resident / 1e6, 1),
    }


def tokens_per_second(
    model: LanguageModel, prompts: Sequence[GoldenText], check_stop: Callable[[], None]
) -> float | None:
    """Tokens of all answers by the time that they took, prompts included; None if there were none.

    Raises:
        ModelError: the model fails at one.
        InputError: it can't take one.
    """
    tokens, milliseconds = 0, 0.0
    for golden in prompts:
        check_stop()
        request = ask(golden.prompt, Generation(json_schema=golden.json_schema))
        with model.slot():
            *_, answer = model.ask(request.job(golden.system, age=0.0), lambda: False)
        if isinstance(answer, Answer):
            tokens += answer.output_tokens
            milliseconds += answer.first_token_ms + answer.output_ms
    return tokens * 1000 / milliseconds if tokens and milliseconds else None
