"""The script that a user would write by hand: JPEGs in over MQTT, labels out. One thread, one file, no frills.

It is written as well as such scripts are: the interpreter is made once, the JPEG is not copied on its way into OpenCV,
NumPy does the sorting. What it leaves at its default (thread counts, the resizing filter, Nagle's algorithm, the QoS of
results) is what such scripts leave. It imports nothing of this project.
"""

import argparse
import json
import socket
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
TOP = 5

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("labels", type=Path)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--topic", required=True)
parser.add_argument("--qos", type=int, default=0, help="of the results")
parser.add_argument("--nodelay", action="store_true", help="what few users know: switch Nagle's algorithm off")
args = parser.parse_args()
labels = args.labels.read_text().splitlines()

if args.model.endswith(".tflite"):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(args.model)
    interpreter.allocate_tensors()
    input_index = interpreter.get_input_details()[0]["index"]
    output = interpreter.get_output_details()[0]
    scale, zero_point = output["quantization"]

    def classify(rgb: Any) -> Any:
        """Probabilities."""
        interpreter.set_tensor(input_index, rgb[np.newaxis])
        interpreter.invoke()
        return (interpreter.get_tensor(output["index"])[0].astype(np.float32) - zero_point) * scale

else:
    import onnxruntime

    session = onnxruntime.InferenceSession(args.model)
    input_name = session.get_inputs()[0].name
    labels = labels[1:]  # this model has no background class

    def classify(rgb: Any) -> Any:
        """Probabilities."""
        tensor = ((rgb - MEAN) / STD).transpose(2, 0, 1)[np.newaxis]
        logits = session.run(None, {input_name: np.ascontiguousarray(tensor)})[0][0]
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()


def on_message(client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
    """A JPEG in, its five most likely labels out."""
    began = time.time()
    image: Any = cv2.imdecode(np.frombuffer(message.payload, np.uint8), cv2.IMREAD_COLOR)
    scores = classify(cv2.cvtColor(cv2.resize(image, (224, 224)), cv2.COLOR_BGR2RGB))
    best = np.argsort(scores)[::-1][:TOP]
    predictions = [{"label": labels[index], "confidence": float(scores[index])} for index in best]
    result = {"time": began, "took_ms": (time.time() - began) * 1000, "predictions": predictions}
    client.publish(f"{args.topic}/result", json.dumps(result), qos=args.qos)


def on_connect(client: mqtt.Client, *_: Any) -> None:
    """After each connection."""
    client.subscribe(f"{args.topic}/in", qos=1)


def on_socket_open(_client: mqtt.Client, _data: Any, connection: Any) -> None:
    """Before anything is sent."""
    if args.nodelay:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


print("loaded", flush=True)
mqtt_client = mqtt.Client(CallbackAPIVersion.VERSION2)
mqtt_client.on_connect = on_connect
mqtt_client.on_subscribe = lambda *_: print("ready", flush=True)
mqtt_client.on_message = on_message
mqtt_client.on_socket_open = on_socket_open
mqtt_client.connect("127.0.0.1", args.port)
mqtt_client.loop_forever()
