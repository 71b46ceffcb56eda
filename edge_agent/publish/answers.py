"""The answers of language models as results carry them."""

from typing import Any

from edge_agent.language.generation import Answer
from edge_agent.system.text import parse_json


def content_of_answer(answer: Answer) -> dict[str, Any]:
    """What a result says of an answer: the text, the parsed document where one was asked for, tokens and durations."""
    content: dict[str, Any] = {"text": answer.text}
    if answer.is_json:
        content["json"] = parse_json(answer.text)
    if answer.is_call:
        content["tool_calls"] = [parse_json(answer.text)]
    tokens: dict[str, float] = {
        "prompt": answer.prompt_tokens,
        "cached": answer.cached_tokens,
        "output": answer.output_tokens,
    }
    if (speed := answer.tokens_per_second) is not None:
        tokens["per_second"] = round(speed, 1)
    if answer.load_ms:
        content["load_ms"] = round(answer.load_ms, 1)
    return content | {
        "finish_reason": answer.finish_reason,
        "tokens": tokens,
        "first_token_ms": round(answer.first_token_ms, 1),
        "probability": {"least": round(answer.least_probability, 4), "mean": round(answer.mean_probability, 4)},
    }
