"""Trains an autoencoder on a machine's normal vibration and quantises it to int8."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import keras
from tensorflow.keras import layers

from edge_agent.commands.simulated_machine import Machine

SEED = 20261123
WINDOW = 32
MACHINES = 2000
WINDOWS_OF_EACH = 100
EPOCHS = 40
BATCH = 512
STD = 0.5
"""In g: readings are divided by it."""


def windows(seed: int, machines: int, each: int, damage: float = 0.0) -> NDArray[np.float32]:
    """Windows of vibration in g, (machines * each, WINDOW); every machine another one."""
    found: list[NDArray[np.float32]] = []
    for number in range(machines):
        machine = Machine(seed * 1_000_003 + number)
        found += [machine.run(WINDOW, damage) for _ in range(each)]
    return np.stack(found)


def build_network() -> keras.Model:
    """Input and output: (n, 32), readings divided by STD."""
    readings = keras.Input((WINDOW,), name="readings")
    x = readings
    for size in (48, 24, 10, 24, 48):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(size)(x)))
    return keras.Model(readings, layers.Dense(WINDOW, name="again")(x))


def to_tflite(network: keras.Model, calibration: NDArray[np.float32]) -> bytes:
    """Full int8, input and output too; ranges are taken from the calibration, (n, WINDOW)."""

    def representative() -> Iterator[list[NDArray[np.float32]]]:
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
    """Simulates, trains, quantises, writes vibration.tflite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    out: Path = parser.parse_args().out

    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    normal = windows(1, MACHINES, WINDOWS_OF_EACH) / STD
    network = build_network()
    steps = len(normal) // BATCH * EPOCHS
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    network.compile(keras.optimizers.Adam(rate), keras.losses.MeanSquaredError())
    network.fit(normal, normal, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    # A damaged machine swings wider than a sound one; what is beyond the range would be cut off before it is seen.
    wide = windows(2, 300, 2, damage=0.5) / STD
    calibration = np.concatenate([normal[::200], wide])
    out.mkdir(parents=True, exist_ok=True)
    (out / "vibration.tflite").write_bytes(to_tflite(network, calibration))


if __name__ == "__main__":
    main()
