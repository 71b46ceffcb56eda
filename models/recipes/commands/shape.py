"""The sizes of the model."""

from models.recipes.llama import Shape

SHAPE = Shape(vocabulary=640, hidden=64, layers=2, heads=2, kv_heads=2, feed_forward=128, context=128)
