"""How pixels, 0 to 255, become a model's input: (x - mean) / standard deviation, of all channels or of each."""

Channels = tuple[float, ...]
Normalization = tuple[Channels, Channels]

# From 0 to 1, from -1 to 1, and as they are.
UNIT: Normalization = ((0.0,), (255.0,))
SIGNED: Normalization = ((127.5,), (127.5,))
RAW: Normalization = ((0.0,), (1.0,))
# Red, green, blue: https://pytorch.org/vision/stable/models.html
IMAGENET: Normalization = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
