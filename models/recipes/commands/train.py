"""Trains the vocabulary and the model, from nothing, on the CPU."""

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from models.recipes.intents.shape import ANSWER, END, PAD, SPECIAL
from models.recipes.intents.train import Llama, learn

from .clauses import clause
from .shape import SHAPE

SEED = 20261130
STEPS = 4000
BATCH = 64
RATE = 4e-3


def train_tokenizer(chance: random.Random) -> Tokenizer:
    """Byte pairs of clauses and labels: nearly every word is a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=SHAPE.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pairs = (clause(chance) for _ in range(20_000))
    tokenizer.train_from_iterator((text for pair in pairs for text in pair), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def batches(chance: random.Random, tokenizer: Tokenizer) -> Iterator[tuple[Tensor, Tensor]]:
    """Without end: tokens, (n, length), and what must follow each; -100 where it does not matter."""
    answer, end, pad = (tokenizer.token_to_id(token) for token in (ANSWER, END, PAD))
    while True:
        pairs = [clause(chance) for _ in range(BATCH)]
        asked, said = (tokenizer.encode_batch(list(texts)) for texts in zip(*pairs, strict=True))
        rows = [(a.ids, [answer, *b.ids, end]) for a, b in zip(asked, said, strict=True)]
        length = max(len(a) + len(b) for a, b in rows)
        tokens, targets = torch.full((BATCH, length), pad), torch.full((BATCH, length), -100)
        for i, (a, b) in enumerate(rows):
            tokens[i, : len(a) + len(b)] = torch.tensor(a + b)
            targets[i, len(a) : len(a) + len(b) - 1] = torch.tensor(b[1:])
        yield tokens, targets


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
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.05)
    source = batches(random.Random(SEED + 1), tokenizer)
    began, recent = time.monotonic(), 0.0
    for step in range(STEPS):
        loss = learn(network, optimizer, next(source), step=step, rate=RATE, falls=STEPS)
        recent = loss if step == 0 else 0.98 * recent + 0.02 * loss
        if step % 50 == 0:
            print(f"step {step}: loss {recent:.4f}, {time.monotonic() - began:.0f} s", flush=True)
        if step % 400 == 399 or step == STEPS - 1:
            torch.save(network.state_dict(), build / "weights.pt")


if __name__ == "__main__":
    main()
