"""Answers requests with a recognizer: one short question to the model for each clause."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from edge_agent.errors import InputError
from edge_agent.language.generation import Answer, FinishReason, Job
from edge_agent.language.intents.recognizer import Recognizer
from edge_agent.language.intents.vocabulary import Vocabulary
from edge_agent.settings.intents import Intents

MAX_TOKENS = 16


def recognizer_of(vocabulary: Vocabulary | None, options: Intents) -> Recognizer | None:
    """The recognizer of a pipeline; None if its model recognizes no commands."""
    if vocabulary is None:
        return None
    devices, places = options.devices or vocabulary.devices, options.places or vocabulary.places
    return Recognizer(devices, places, vocabulary.words, options.min_probability)


def answers(recognizer: Recognizer, job: Job, ask: Callable[[Job], Iterator[str | Answer]]) -> Iterator[str | Answer]:
    """Signs of life, which are empty, and at last the answer: the intents as JSON.

    Args:
        recognizer: of the pipeline.
        job: the request; the last of its messages is the command.
        ask: asks the model.

    Raises:
        InputError: the deadline passes, or functions are to be called.
        ModelError: the model fails.
    """
    if job.functions:
        raise InputError("tools: this model recognizes commands, and calls no functions")
    said = list[Answer]()

    def classify(prompt: str, labels: Sequence[str]) -> tuple[str, float]:
        question = replace(
            job,
            messages=[{"role": "user", "content": prompt}],
            stream=False,
            max_tokens=MAX_TOKENS,
            temperature=0.0,
            stop=(),
            json_schema=None,
            choices=tuple(labels),
            refusals=(),
            functions=(),
            must_call=False,
            numbers="any",
        )
        [answer] = [part for part in ask(question) if isinstance(part, Answer)]
        said.append(answer)
        return (answer.text, answer.least_probability) if answer.finish_reason == "stop" else ("none", 0.0)

    yield ""
    intents = recognizer.recognize(str(job.messages[-1]["content"]), classify)
    cut = next((one.finish_reason for one in said if one.finish_reason != "stop"), None)
    refused = all(intent["intent"] == "none" for intent in intents)
    reason: FinishReason = cut or ("refused" if refused else "stop")
    yield Answer(
        text="" if cut else json.dumps(intents, separators=(",", ":")),
        finish_reason=reason,
        is_json=cut is None,
        is_call=False,
        prompt_tokens=sum(one.prompt_tokens for one in said),
        cached_tokens=sum(one.cached_tokens for one in said),
        output_tokens=sum(one.output_tokens for one in said),
        first_token_ms=said[0].first_token_ms if said else 0.0,
        output_ms=sum(one.output_ms + one.first_token_ms for one in said) - (said[0].first_token_ms if said else 0.0),
        least_probability=min((one.least_probability for one in said), default=1.0),
        mean_probability=sum(one.mean_probability for one in said) / len(said) if said else 1.0,
    )
