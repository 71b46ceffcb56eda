"""Constrained decoding: the answer follows a JSON schema or is one of several texts. Other tokens are masked.

This uses llguidance, https://github.com/guidance-ai/llguidance. ONNX Runtime GenAI contains it as well, but there it is
tied to a generator, which the prefix cache would lose.
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edge_agent.engines import reason
from edge_agent.errors import InputError, MissingExtraError
from edge_agent.language.schema_problem import problem
from edge_agent.language.tools import Function, call_schema

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

try:
    import llguidance
    import llguidance.numpy as masks
except ImportError as error:
    raise MissingExtraError("answers by json_schema or choices", "language", error) from None

# A schema that takes more work than this is refused, so that none blocks the device.
MAX_GRAMMAR_SIZE = 100_000
MAX_ITEMS_IN_A_STEP = 50_000
LEXER_FUEL = 1_000_000
MAX_NUMBERS = 200
_NUMBER = re.compile(r"[0-9]+(?:[.:,][0-9]+)*")
_COMPACT: Any = {"whitespace_flexible": False}
_WORDS = r"WORDS: /[^{\s](.|\n)*/"


def schema_problem(json_schema: object) -> str:
    """Why a JSON Schema can't be used, and where in it; empty if it can."""
    if message := _error_of(json_schema):
        return problem(json_schema, message, _error_of)
    return ""


def _error_of(json_schema: object) -> str:
    message = str(llguidance.LLMatcher.validate_grammar(_grammar(json_schema), None, limits=_limits()))
    return message.partition("\n  while processing ")[0]  # names the place of a definition, and no other one


def _grammar(json_schema: object) -> Any:
    # No optional white space: a small model could fill an answer with it without end.
    return llguidance.LLMatcher.grammar_from_json_schema(json.dumps(json_schema), overrides=_COMPACT)


def _lark(start: str, rules: str = "") -> Any:
    return llguidance.LLMatcher.grammar_from_lark(f"start: {start}\n{rules}")


def _limits() -> Any:
    return llguidance.LLParserLimits(
        max_grammar_size=MAX_GRAMMAR_SIZE,
        step_max_items=MAX_ITEMS_IN_A_STEP,
        initial_lexer_fuel=LEXER_FUEL,
        step_lexer_fuel=LEXER_FUEL,
    )


class Constraint:
    """Follows an answer token by token and masks what must not come next.

    Args:
        tokenizer: see `LanguageEngine.constraint_tokenizer`.
        json_schema: what the answer must be.
        choices: the answer must be one of these; used where there is no schema.

    Raises:
        InputError: the schema is wrong, can't be satisfied, or uses what is not supported; the message has the reason.
    """

    def __init__(self, tokenizer: Any, json_schema: object, choices: Sequence[str]) -> None:
        if json_schema is None:
            self._begin(tokenizer, _lark(" | ".join(map(json.dumps, choices))), "choices")
        else:
            self._begin(tokenizer, _grammar(json_schema), "json_schema", json_schema)

    @classmethod
    def of_calls(cls, tokenizer: Any, functions: Sequence[Function], *, must_call: bool) -> "Constraint":
        """A constraint to a call of one of the functions, or to text that does not begin with `{`.

        Args:
            tokenizer: see the class.
            functions: that may be called.
            must_call: whether text is no answer.

        Raises:
            InputError: see the class.
        """
        schema = call_schema(functions)
        call = "%json " + json.dumps(schema | {"x-guidance": _COMPACT})
        self = cls.__new__(cls)
        grammar = _lark(call if must_call else "call | WORDS", "" if must_call else f"call: {call}\n{_WORDS}")
        self._begin(tokenizer, grammar, "tools", schema)
        return self

    @classmethod
    def of_numbers(cls, tokenizer: Any, prompt: str) -> "Constraint":
        """A constraint to text whose numbers in digits all stand in a prompt.

        Args:
            tokenizer: see the class.
            prompt: has the numbers; of more than `MAX_NUMBERS` different ones, those that come last count.

        Raises:
            InputError: see the class.
        """
        stated = list(dict.fromkeys(reversed(_NUMBER.findall(prompt))))[:MAX_NUMBERS]
        start, rules = "WORDS?", "WORDS: /[^0-9]+/"
        if stated:  # between two of them there is more than a mark, or they would be a third one
            start = "WORDS? (number (BETWEEN number)* WORDS?)?"
            rules += f"\nBETWEEN: /[^0-9]*[^0-9.:,][^0-9]*/\nnumber: {' | '.join(map(json.dumps, stated))}"
        self = cls.__new__(cls)
        self._begin(tokenizer, _lark(start, rules), "numbers")
        return self

    def _begin(self, tokenizer: Any, grammar: Any, what: str, json_schema: object = None) -> None:
        self._matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=_limits())
        self._mask = masks.allocate_token_bitmask(1, tokenizer.vocab_size)
        self._what = what
        if json_schema is not None and self._matcher.is_error() and (wrong := schema_problem(json_schema)):
            raise InputError(f"{what}: {reason(ValueError(wrong))}")
        self._check()

    def mask(self, logits: "NDArray[np.float32]") -> None:
        """Sets the logits of tokens that must not come next to -inf.

        Args:
            logits: shape (vocabulary,); changed in place.

        Raises:
            InputError: the schema takes too much work.
        """
        masks.fill_next_token_bitmask(self._matcher, self._mask, 0)
        self._check()
        masks.apply_token_bitmask_inplace(logits, self._mask[0])

    def accept(self, token: int) -> None:
        """Goes on to the state after the token that was picked."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def done(self) -> bool:
        """Whether the answer is complete and nothing can follow."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            why = reason(ValueError(self._matcher.get_error()))
            # An error that is one word names a state of the parser.
            why = why if " " in why else f"there is nothing that it allows ({why})"
            raise InputError(f"{self._what}: {why}")
