"""The sizes of the model, and its tokens with a meaning of their own."""

from models.recipes.llama import Shape

SPECIAL = PAD, ANSWER, END = ("<|pad|>", "<|answer|>", "<|end|>")
"""ANSWER stands between what is asked and its answer, END after that."""
SHAPE = Shape(vocabulary=1024, hidden=160, layers=4, heads=5, kv_heads=5, feed_forward=320, context=256)
