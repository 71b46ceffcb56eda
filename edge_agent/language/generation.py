"""From a request to an answer, in one function: `Generation.answer`."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edge_agent.engines import reason
from edge_agent.errors import InputError, ModelError
from edge_agent.language import LanguageEngine
from edge_agent.language.prefixes import PrefixCache
from edge_agent.language.sampling import Sampler
from edge_agent.language.stopping import StopSequences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_agent.language.constraint import Constraint

FinishReason = Literal["stop", "length", "cancelled", "deadline"]
_CUT_SHORT = {
    "length": "the answer does not follow json_schema or choices before it is {tokens} tokens long: raise max_tokens, "
    "or bound the lengths in the schema",
    "deadline": "the deadline has passed before the answer follows json_schema or choices",
}


@dataclass(frozen=True, slots=True)
class Job:
    """A request as the worker gets it.

    Attributes:
        messages: the conversation: role and content of each turn. A model without a chat template gets the contents.
        chat: whether a chat template is required.
        stream: whether the text is sent in pieces as well.
        deadline: seconds from now.
        max_tokens, temperature, top_k, top_p, seed, stop, json_schema, choices: as in `settings.text.Generation`.
    """

    messages: Sequence[Mapping[str, str]]
    chat: bool
    stream: bool
    deadline: float
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int | None
    stop: Sequence[str]
    json_schema: Mapping[str, Any] | None
    choices: Sequence[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a model.

    Attributes:
        finish_reason: `stop`: an end token or a stop sequence; `length`: max_tokens, or the end of the context;
            `cancelled`; `deadline`.
        prompt_tokens: tokens of the whole prompt.
        cached_tokens: tokens of the prompt that the cache had.
        output_tokens: tokens of the answer.
        first_token_ms: from the request to the first token, in milliseconds.
        output_ms: from the first token to the last, in milliseconds.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    first_token_ms: float
    output_ms: float


# A system message of no meaning, looked for in what a template makes of it.
_PROBE = "You are a lamp."


class Generation:
    """A loaded model with its cache.

    Args:
        engine: the model.
        cache: of its sessions.
    """

    def __init__(self, engine: LanguageEngine, cache: PrefixCache) -> None:
        self._engine = engine
        self._cache = cache
        self._tokenizer: Any = None

    def warm_up(self) -> None:
        """Reads one token, so that the first request is not slow.

        Raises:
            Exception: the model can't be run; of whatever type the runtime raises.
        """
        session, _ = self._cache.read([0], exact=False, proceed=lambda: True)
        session.logits()
        self._cache.clear()

    def system_problem(self) -> str:
        """Why the model takes no system message; empty: it does. Templates refuse one, or leave it out."""
        if not self._engine.has_template():
            return ""  # it is put before the prompt
        try:
            text = self._engine.chat([{"role": "system", "content": _PROBE}, {"role": "user", "content": "Hello."}])
        except InputError as error:
            return str(error)
        return "" if _PROBE in text else "the model's template leaves out system messages"

    def reset(self) -> None:
        """Drops all cached sessions: after a failure their state is not known."""
        self._cache.clear()

    def answer(self, job: Job, piece: Callable[[str], None], cancelled: Callable[[], bool]) -> Answer:
        """Answers a job.

        Args:
            job: the request.
            piece: called with every piece of the text, possibly empty, as it comes.
            cancelled: called between chunks of the prompt and between tokens; True ends the answer.

        Raises:
            InputError: the prompt is too long or has unknown words, or the constraint can't be met.
        """
        limits = _Limits(job.deadline, cancelled)
        constraint = self._constraint(job)
        tokens = self._tokens(job)
        session, cached = self._cache.read(tokens, exact=job.seed is not None, proceed=limits.allow)
        sampler = Sampler(job.temperature, job.top_k, job.top_p, job.seed)
        decode, stops = self._engine.decoder(), StopSequences(job.stop)
        most = min(job.max_tokens, self._engine.context - len(tokens))
        text, count, reason, first_token = "", 0, limits.reason, time.monotonic()
        while reason is None:
            token = _next_token(session.logits(), sampler, constraint)
            if count == 0:
                first_token = time.monotonic()
            count += 1
            if token in self._engine.vocabulary.ends:
                reason = "stop"
                break
            new = stops.feed(decode(token))
            text += new
            piece(new)
            if stops.found or (constraint is not None and constraint.done):
                reason = "stop"
            elif count >= most:
                reason = "length"
            elif limits.allow():
                session.extend([token])
            else:
                reason = limits.reason
        if constraint is not None and reason in _CUT_SHORT:
            raise InputError(_CUT_SHORT[reason].format(tokens=count))
        if rest := stops.rest():
            text += rest
            piece(rest)
        return Answer(
            text=text,
            finish_reason=reason,
            prompt_tokens=len(tokens),
            cached_tokens=cached,
            output_tokens=count,
            first_token_ms=(first_token - limits.started) * 1000,
            output_ms=(time.monotonic() - first_token) * 1000,
        )

    def _tokens(self, job: Job) -> list[int]:
        """The tokens of the prompt.

        Raises:
            InputError: there are none, too many, or some that the model does not know.
        """
        engine = self._engine
        if job.chat or engine.has_template():
            text = engine.chat(job.messages)
        else:
            text = "".join(message["content"] for message in job.messages)
        tokens = engine.encode(text)
        if not tokens:
            raise InputError("the prompt has no tokens")
        if len(tokens) >= engine.context:
            raise InputError(
                f"the prompt has {len(tokens)} tokens, and the context holds {engine.context} with the answer: "
                "send less, or raise the model's context"
            )
        if max(tokens) >= engine.vocabulary.size:
            raise InputError("the prompt has a word that the tokenizer knows and the model does not")
        return tokens

    def _constraint(self, job: Job) -> "Constraint | None":
        if job.json_schema is None and not job.choices:
            return None
        from edge_agent.language.constraint import Constraint

        if self._tokenizer is None:
            try:
                self._tokenizer = self._engine.constraint_tokenizer()
            except ValueError as error:
                problem = f"this model's tokenizer does not allow json_schema and choices: {reason(error)}"
                raise ModelError(problem) from None
        return Constraint(self._tokenizer, job.json_schema, job.choices)


class _Limits:
    """What ends an answer from outside: its deadline, and a cancellation.

    Args:
        deadline: seconds from now.
        cancelled: called by each `allow`.

    Attributes:
        started: when this was made, on the monotonic clock.
        reason: why the answer ends; None while it may go on.
    """

    def __init__(self, deadline: float, cancelled: Callable[[], bool]) -> None:
        self.started = time.monotonic()
        self.reason: FinishReason | None = None
        self._deadline = self.started + deadline
        self._cancelled = cancelled

    def allow(self) -> bool:
        """Whether the answer may go on; sets `reason` if not."""
        if self._cancelled():
            self.reason = "cancelled"
        elif time.monotonic() > self._deadline:
            self.reason = "deadline"
        return self.reason is None


def _next_token(logits: "NDArray[np.float32]", sampler: Sampler, constraint: "Constraint | None") -> int:
    if constraint is None:
        return sampler.pick(logits)
    constraint.mask(logits)
    token = sampler.pick(logits)
    constraint.accept(token)
    return token
