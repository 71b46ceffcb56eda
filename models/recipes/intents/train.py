"""Trains the vocabulary and the model, from nothing, on the CPU."""

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

from models.recipes.llama import Shape

from .commands import TIMED, command, with_typo
from .shape import ANSWER, END, PAD, SHAPE, SPECIAL
from .summaries import summary

SEED = 20261123
BATCH = 48
WARM_UP = 100
OF_LIKE_LENGTH = 40
"""Batches that are sorted by length together, so that little is padding."""


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        steps: how many.
        rate: of learning, at first.
        falls: in so many steps it would fall to nothing, along a cosine.
        timed: share of orders with a time.
        typos: share of commands with a slip of the finger.
        summaries: share of what is asked that are readings; the rest are commands.
    """

    steps: int
    rate: float
    falls: int
    timed: float
    typos: float
    summaries: float


# Words are soon learned, numbers late: the second stage is mostly of these, the third of typing mistakes, the last of
# readings.
STAGES = (
    Stage(1200, 3e-3, 2200, TIMED, 0.12, 0.5),
    Stage(1100, 2e-3, 1100, 0.85, 0.12, 0.45),
    Stage(700, 1.5e-3, 700, TIMED, 0.35, 0.45),
    Stage(1400, 2e-3, 1400, 0.65, 0.3, 0.6),
)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions, https://arxiv.org/abs/2305.13245."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._shape = shape
        size = shape.head_size
        self.query = nn.Linear(shape.hidden, shape.heads * size, bias=False)
        self.key = nn.Linear(shape.hidden, shape.kv_heads * size, bias=False)
        self.value = nn.Linear(shape.hidden, shape.kv_heads * size, bias=False)
        self.output = nn.Linear(shape.heads * size, shape.hidden, bias=False)

    def forward(self, stream: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(n, length, hidden) to the same."""
        batch, length, _ = stream.shape

        def split(values: Tensor) -> Tensor:
            return values.view(batch, length, -1, self._shape.head_size).transpose(1, 2)

        query, key = (_rotate(split(part(stream)), cos, sin) for part in (self.query, self.key))
        value = split(self.value(stream))
        shared = self._shape.heads // self._shape.kv_heads
        key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).reshape(batch, length, -1))


class Layer(nn.Module):
    """Attention and a gated feed-forward network."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.before_attention = nn.RMSNorm(shape.hidden, eps=shape.epsilon)
        self.attention = Attention(shape)
        self.before_forward = nn.RMSNorm(shape.hidden, eps=shape.epsilon)
        self.gate = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.up = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.hidden, bias=False)

    def forward(self, stream: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(n, length, hidden) to the same."""
        stream = stream + self.attention(self.before_attention(stream), cos, sin)
        found = self.before_forward(stream)
        return stream + self.down(functional.silu(self.gate(found)) * self.up(found))


class Llama(nn.Module):
    """The decoder of https://arxiv.org/abs/2302.13971; what reads the words also writes them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.last = nn.RMSNorm(shape.hidden, eps=shape.epsilon)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02 if parameter is self.words.weight else parameter.shape[1] ** -0.5)
        for layer in self.layers:
            for last in (layer.attention.output, layer.down):
                last.weight.data /= math.sqrt(2 * shape.layers)
        angles = torch.from_numpy(shape.angles()).float()
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, length) to the stream before the words are written, (n, length, hidden)."""
        stream, length = self.words(tokens), tokens.shape[1]
        for layer in self.layers:
            stream = layer(stream, self.cos[:length], self.sin[:length])
        return self.last(stream)


def _rotate(values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = values.chunk(2, -1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), -1)


def train_tokenizer(chance: random.Random) -> Tokenizer:
    """Byte pairs of what is asked and answered; a digit is always a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    # The digits are kept apart here; the merges that are never learned keep them apart afterwards.
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    trainer = trainers.BpeTrainer(
        vocab_size=SHAPE.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pairs = (_pair(chance, STAGES[0]) for _ in range(30_000))
    tokenizer.train_from_iterator((text for pair in pairs for text in pair), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.pre_tokenizer, tokenizer.decoder = byte_level, decoders.ByteLevel()
    return tokenizer


def batches(chance: random.Random, tokenizer: Tokenizer, stage: Stage) -> Iterator[tuple[Tensor, Tensor]]:
    """Without end: tokens, (n, length), and what must follow each; -100 where it does not matter."""
    answer, end, pad = (tokenizer.token_to_id(token) for token in (ANSWER, END, PAD))
    while True:
        pairs = [_pair(chance, stage) for _ in range(BATCH * OF_LIKE_LENGTH)]
        asked, said = (tokenizer.encode_batch(list(texts)) for texts in zip(*pairs, strict=True))
        rows = sorted(
            ((a.ids, [answer, *b.ids, end]) for a, b in zip(asked, said, strict=True)),
            key=lambda row: len(row[0]) + len(row[1]),
        )
        groups = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
        chance.shuffle(groups)
        for group in groups:
            length = max(len(a) + len(b) for a, b in group)
            tokens = torch.full((BATCH, length), pad)
            targets = torch.full((BATCH, length), -100)
            for i, (a, b) in enumerate(group):
                tokens[i, : len(a) + len(b)] = torch.tensor(a + b)
                targets[i, len(a) : len(a) + len(b) - 1] = torch.tensor(b[1:])
            yield tokens, targets


def _pair(chance: random.Random, stage: Stage) -> tuple[str, str]:
    """What is asked, and the answer."""
    if chance.random() < stage.summaries:
        return summary(chance, held_out=False)
    text, intent = command(chance, held_out=False, timed=stage.timed)
    return (with_typo(chance, text) if chance.random() < stage.typos else text), intent


def learn(
    network: Llama,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    *,
    step: int,
    rate: float,
    falls: int,
) -> float:
    """One step; returns the loss.

    Args:
        network: to be trained.
        optimizer: of its parameters.
        batch: tokens and what must follow each, see `batches`.
        step: its number; the first `WARM_UP` are slower.
        rate: of learning, at first.
        falls: in so many steps the rate would fall to nearly nothing, along a cosine.
    """
    share = (1 + math.cos(math.pi * step / falls)) / 2
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * share)
    tokens, targets = batch
    wanted = targets != -100
    loss = functional.cross_entropy(network(tokens)[wanted] @ network.words.weight.T, targets[wanted])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return float(loss.item())


def train(network: Llama, tokenizer: Tokenizer, number: int) -> None:
    """One of the stages."""
    stage = STAGES[number]
    decayed = [parameter for parameter in network.parameters() if parameter.dim() == 2]
    others = [parameter for parameter in network.parameters() if parameter.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=stage.rate, betas=(0.9, 0.98))
    source = batches(random.Random(SEED + 1 + number), tokenizer, stage)
    began, recent = time.monotonic(), 0.0
    for step in range(stage.steps):
        loss = learn(network, optimizer, next(source), step=step, rate=stage.rate, falls=stage.falls)
        recent = loss if step == 0 else 0.98 * recent + 0.02 * loss
        if step % 50 == 0:
            print(f"stage {number}, step {step}: loss {recent:.4f}, {time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    """Writes tokenizer.json and weights.pt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True, help="folder for what is made here")
    build: Path = parser.parse_args().build

    build.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer(random.Random(SEED))
    tokenizer.save(str(build / "tokenizer.json"))
    network = Llama(SHAPE)
    for number in range(len(STAGES)):
        train(network, tokenizer, number)
        torch.save(network.state_dict(), build / "weights.pt")


if __name__ == "__main__":
    main()
