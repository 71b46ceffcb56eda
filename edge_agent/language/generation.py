"""From a request to an answer, in one function: `Generation.steps`."""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edge_agent.engines import reason
from edge_agent.errors import InputError, ModelError
from edge_agent.language import LanguageEngine
from edge_agent.language.prefixes import CachedSession, PrefixCache
from edge_agent.language.sampling import Sampler, log_sum
from edge_agent.language.stopping import StopSequences
from edge_agent.system.text import parse_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_agent.language.constraint import Constraint

FinishReason = Literal["stop", "length", "cancelled", "deadline", "refused"]
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
        max_tokens, temperature, top_k, top_p, seed, stop, json_schema, choices, refusals, numbers: as in
            `settings.text.Generation`.
        functions: that the model may call; described in `messages` already.
        must_call: whether the answer must be a call of one of them.
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
    refusals: Sequence[str]
    functions: Sequence[Mapping[str, Any]] = ()
    must_call: bool = False
    numbers: Literal["any", "stated"] = "any"

    @property
    def in_words(self) -> bool:
        """Whether the answer has no form that it could fail to have."""
        return self.json_schema is None and not self.choices and not self.functions


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a model.

    Attributes:
        finish_reason: `stop`: an end token or a stop sequence; `length`: max_tokens, or the end of the context;
            `cancelled`; `deadline`; `refused`: the answer is one of `refusals`.
        is_json: whether the text is a complete document that conforms to the request's `json_schema`.
        is_call: whether the text is a complete call of one of the request's functions, as JSON.
        prompt_tokens: tokens of the whole prompt.
        cached_tokens: tokens of the prompt that the cache had.
        output_tokens: tokens of the answer.
        first_token_ms: from the request to the first token, in milliseconds.
        output_ms: from the first token to the last, in milliseconds.
        load_ms: how long it took to load the model for this request, in milliseconds; 0 if it was loaded.
        least_probability, mean_probability: of the tokens of the answer, as the model gave them before constraints and
            sampling options; 1 if there are no tokens.
    """

    text: str
    finish_reason: FinishReason
    is_json: bool
    is_call: bool
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    first_token_ms: float
    output_ms: float
    least_probability: float
    mean_probability: float
    load_ms: float = 0.0

    @property
    def tokens_per_second(self) -> float | None:
        """How fast the tokens after the first one came; None if there are none."""
        return (self.output_tokens - 1) * 1000 / self.output_ms if self.output_tokens > 1 and self.output_ms else None


# A system message of no meaning, looked for in what a template makes of it; and a request to try a model with.
_PROBE, _GREETING = "You are a lamp.", "Hello."


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens that have to be read before an answer can go on.

    Attributes:
        session: reads them.
        of_prompt: whether they are of the prompt; else it is the latest token of the answer.
        alone: whether nothing else may be read in the same batch.
    """

    session: CachedSession
    tokens: Sequence[int]
    of_prompt: bool
    alone: bool


Steps = Generator[Part, None, Answer]
"""An answer as it is made. Part of a prompt that has not been read when it goes on is given again."""


class Generation:
    """A loaded model with its cache.

    Args:
        engine: the model.
        cache: of its sessions.

    Attributes:
        capacity: jobs that can be worked on at once.
    """

    def __init__(self, engine: LanguageEngine, cache: PrefixCache) -> None:
        self._engine = engine
        self._cache = cache
        self._tokenizer: Any = None
        self.capacity = cache.capacity

    def warm_up(self) -> None:
        """Answers once, with two tokens: a model that can't must not count as ready. So the first request is fast, too.

        Raises:
            ModelError: no request would be answered.
            Exception: the model can't be run; of whatever type the runtime raises.
        """
        job = Job(
            messages=[{"role": "user", "content": _GREETING}],
            chat=False,
            stream=False,
            deadline=math.inf,
            max_tokens=2,
            temperature=0.0,
            top_k=1,
            top_p=1.0,
            seed=None,
            stop=(),
            json_schema=None,
            choices=(),
            refusals=(),
        )
        try:
            tokens = self._tokens(job)
        except InputError as error:
            if self._engine.has_template():
                raise ModelError(f"it can't answer {_GREETING!r}: {error}") from None
            tokens = [0]  # a model of other words
        self._finish(self._generate(job, tokens, lambda _: None, _Limits(job.deadline, lambda: False)))
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
        """Answers a job, and no other one meanwhile; see `steps`.

        Raises:
            InputError: see `steps`.
        """
        return self._finish(self.steps(job, piece, cancelled))

    def steps(self, job: Job, piece: Callable[[str], None], cancelled: Callable[[], bool]) -> Steps:
        """Answers a job, step by step; what a step gives is to be read, by `read`, before the next one.

        Args:
            job: the request.
            piece: called with every piece of the text, possibly empty, as it comes.
            cancelled: called in each step; True ends the answer.

        Raises:
            InputError: the prompt is too long or has unknown words, or the constraint can't be met.
        """
        limits = _Limits(job.deadline, cancelled)
        return (yield from self._generate(job, self._tokens(job), piece, limits))

    def read(self, parts: Sequence[Part]) -> None:
        """Reads parts of different answers in one batch."""
        self._engine.extend([(part.session.session, part.tokens) for part in parts])
        for part in parts:
            part.session.has_read(part.tokens, alone=len(parts) == 1)

    def _finish(self, steps: Steps) -> Answer:
        while True:
            try:
                part = next(steps)
            except StopIteration as end:
                answer: Answer = end.value
                return answer
            self.read([part])

    def _generate(self, job: Job, tokens: Sequence[int], piece: Callable[[str], None], limits: "_Limits") -> Steps:
        constraint = self._constraint(job)
        with self._cache.use(tokens, exact=job.seed is not None) as session:
            return (yield from self._in_session(session, job, tokens, constraint, piece, limits))

    def _in_session(
        self,
        session: CachedSession,
        job: Job,
        tokens: Sequence[int],
        constraint: "Constraint | None",
        piece: Callable[[str], None],
        limits: "_Limits",
    ) -> Steps:
        cached, alone = len(session.tokens), job.seed is not None
        while len(session.tokens) < len(tokens) and limits.allow():
            yield Part(session, session.chunk(tokens), of_prompt=True, alone=alone)
        sampler = Sampler(job.temperature, job.top_k, job.top_p, job.seed)
        decode, stops = self._engine.decoder(), StopSequences(job.stop)
        most = min(job.max_tokens, self._engine.context - len(tokens))
        text, probabilities, reason, first_token = "", list[float](), limits.reason, time.monotonic()
        while reason is None:
            token, probability = _next_token(session.logits(), sampler, constraint)
            if not probabilities:
                first_token = time.monotonic()
            probabilities.append(probability)
            if token in self._engine.vocabulary.ends:
                reason = "stop"
                break
            new = stops.feed(decode(token))
            text += new
            piece(new)
            if stops.found or (constraint is not None and constraint.done):
                reason = "stop"
            elif len(probabilities) >= most:
                reason = "length"
            elif limits.allow():
                yield Part(session, [token], of_prompt=False, alone=alone)
            else:
                reason = limits.reason
        in_words = bool(job.functions) and not text.startswith("{")
        if not (job.in_words or in_words) and reason in _CUT_SHORT:
            raise InputError(_CUT_SHORT[reason].format(tokens=len(probabilities)))
        if rest := stops.rest():
            text += rest
            piece(rest)
        is_json = job.json_schema is not None and reason == "stop"
        return Answer(
            text=text,
            finish_reason="refused" if reason == "stop" and _is_refusal(text, job, is_json=is_json) else reason,
            is_json=is_json,
            is_call=bool(job.functions) and not in_words and reason == "stop",
            prompt_tokens=len(tokens),
            cached_tokens=cached,
            output_tokens=len(probabilities),
            first_token_ms=(first_token - limits.started) * 1000,
            output_ms=(time.monotonic() - first_token) * 1000,
            least_probability=min(probabilities, default=1.0),
            mean_probability=sum(probabilities) / len(probabilities) if probabilities else 1.0,
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
        if job.in_words and job.numbers == "any":
            return None
        from edge_agent.language.constraint import Constraint

        if self._tokenizer is None:
            try:
                self._tokenizer = self._engine.constraint_tokenizer()
            except ValueError as error:
                problem = f"this model's tokenizer does not allow json_schema and choices: {reason(error)}"
                raise ModelError(problem) from None
        if job.functions:
            return Constraint.of_calls(self._tokenizer, job.functions, must_call=job.must_call)
        if job.in_words:
            prompt = "\n".join(message["content"] for message in job.messages)
            return Constraint.of_numbers(self._tokenizer, prompt)
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


def _next_token(logits: "NDArray[np.float32]", sampler: Sampler, constraint: "Constraint | None") -> tuple[int, float]:
    """The next token and its probability.

    Raises:
        ModelError: the model gives no numbers.
    """
    total = log_sum(logits)
    if not math.isfinite(total):
        raise ModelError("it gives numbers that are not finite: its weights are damaged, or too large for the runtime")
    if constraint is not None:
        constraint.mask(logits)
    token = sampler.pick(logits)
    if constraint is not None:
        constraint.accept(token)
    return token, math.exp(min(0.0, float(logits[token]) - total))


def _is_refusal(text: str, job: Job, *, is_json: bool) -> bool:
    """Whether an answer, or the value of a key of a JSON object, is one of the texts that refuse."""
    if not job.refusals:
        return False
    said: Any = parse_json(text) if is_json else text.strip()
    values = said.values() if isinstance(said, dict) else [said]
    return any(value in job.refusals for value in values if isinstance(value, str))
