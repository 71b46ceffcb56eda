"""Trains the classifier and quantises it to int8."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers

from .dataset import LABELS, STD, WINDOW, Dataset, load, turned

SEED = 20261123
HOP = 8
EPOCHS = 60
BATCH = 128
LEARNING_RATE = 2e-3


def build_network() -> keras.Model:
    """Input: (n, 52, 3), readings in g. Output: (n, 3), the probability of each label."""
    readings = keras.Input((WINDOW, 3), name="readings")
    # A constant shape: the batch stays free without operators that compute a shape.
    x = tf.reshape(readings, (-1, WINDOW, 1, 3))
    for filters, stride in ((16, 1), (24, 2), (32, 2)):
        x = layers.Conv2D(filters, (5, 1), strides=(stride, 1), padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.AveragePooling2D((13, 1))(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Conv2D(len(LABELS), 1)(x)
    return keras.Model(readings, layers.Softmax(name="probabilities")(tf.reshape(x, (-1, len(LABELS)))))


def to_tflite(network: keras.Model, data: Dataset) -> bytes:
    """Full int8, input and output too; ranges are taken from the data."""
    rng = np.random.default_rng(SEED)
    calibration = turned(data.windows[rng.permutation(len(data.windows))[:500]], rng) / STD

    def representative() -> Iterator[list[np.ndarray]]:
        for window in calibration:
            yield [window[None]]

    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    model: bytes = converter.convert()
    return model


def main() -> None:
    """Trains and writes activity.tflite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="dataset.zip")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    data, rng = load(arguments.data, HOP, test=False), np.random.default_rng(SEED)
    counts = np.bincount(data.labels)
    weights = {number: len(data.labels) / len(counts) / count for number, count in enumerate(counts)}
    network = build_network()
    steps = EPOCHS * (len(data.labels) // BATCH + 1)
    network.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
    )
    for _ in range(EPOCHS):
        network.fit(turned(data.windows, rng) / STD, data.labels, batch_size=BATCH, class_weight=weights, verbose=2)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "activity.tflite").write_bytes(to_tflite(network, data))


if __name__ == "__main__":
    main()
