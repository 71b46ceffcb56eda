"""Trains the network in float and saves it as a Keras model."""

import argparse
from pathlib import Path

import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers

from .camera import INPUT_HEIGHT, INPUT_WIDTH
from .dataset import LABELS, Dataset, Sources, make_dataset

SEED = 20261123
SAMPLES = 320_000
EPOCHS = 14
BATCH = 256
PEAK_LEARNING_RATE = 4e-3


def build_network() -> keras.Model:
    """Convolutions only, so that the same few operators exist in every runtime.

    Input: (n, 32, 24, 1), grey, 0 to 1. Output: (n, 11), the probability of each label.
    """
    image = keras.Input((INPUT_HEIGHT, INPUT_WIDTH, 1), name="image")
    x = _convolution(image, 16, stride=1)
    x = _convolution(x, 32, stride=2)  # 16 x 12
    x = _convolution(x, 32, stride=1)
    x = _convolution(x, 64, stride=2)  # 8 x 6
    x = _convolution(x, 64, stride=1)
    x = _convolution(x, 96, stride=2)  # 4 x 3
    x = layers.Conv2D(96, (4, 3), use_bias=False)(x)  # all of it: 1 x 1
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dropout(0.2)(x)
    x = layers.Conv2D(len(LABELS), 1)(x)
    # A constant shape: the batch stays free without operators that compute a shape.
    x = tf.reshape(x, (-1, len(LABELS)))
    return keras.Model(image, layers.Softmax(name="probabilities")(x))


def _convolution(x: tf.Tensor, filters: int, stride: int) -> tf.Tensor:
    x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def train(network: keras.Model, data: Dataset) -> None:
    """Fits the network to the data, EPOCHS times over it."""
    steps = len(data.labels) // BATCH
    batches = (
        tf.data.Dataset.from_tensor_slices((data.images[..., None], data.labels))
        .shuffle(len(data.labels), seed=SEED)
        .batch(BATCH, drop_remainder=True)
        .map(lambda images, labels: (tf.cast(images, tf.float32) / 255, labels))
        .prefetch(2)
    )
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=PEAK_LEARNING_RATE / 10,
        warmup_target=PEAK_LEARNING_RATE,
        warmup_steps=steps // 2,
        decay_steps=steps * EPOCHS - steps // 2,
    )
    network.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-3),
        keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
    )
    network.fit(batches, epochs=EPOCHS, verbose=2)


def main() -> None:
    """Renders the training data, trains on it and saves the network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fonts", type=Path, required=True, help="folder with the font files")
    parser.add_argument("--out", type=Path, required=True, help="the .keras file to write")
    arguments = parser.parse_args()

    data = make_dataset(SEED, SAMPLES, Sources.training(arguments.fonts), None, None)
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    network = build_network()
    train(network, data)
    network.save(arguments.out)


if __name__ == "__main__":
    main()
