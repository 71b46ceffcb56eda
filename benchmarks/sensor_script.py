"""The script that a user would write by hand: 32 readings in over MQTT, an anomaly score out. One thread, no frills.

As with `script.py`, it is written as well as such scripts are, and leaves at its default what they leave. It imports
nothing of this project.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from ai_edge_litert.interpreter import Interpreter
from paho.mqtt.enums import CallbackAPIVersion

STD = 0.5

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--topic", required=True)
parser.add_argument("--threshold", type=float, required=True)
args = parser.parse_args()

interpreter = Interpreter(args.model)
interpreter.allocate_tensors()
into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]


def on_message(client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
    """32 float32 in, their score out."""
    began = time.time()
    values = np.frombuffer(message.payload, np.float32) / STD
    scale, zero_point = into["quantization"]
    stored = np.clip(np.round(values / scale + zero_point), -128, 127).astype(np.int8)
    interpreter.set_tensor(into["index"], stored[np.newaxis])
    interpreter.invoke()
    scale, zero_point = out["quantization"]
    again = (interpreter.get_tensor(out["index"])[0].astype(np.float32) - zero_point) * scale
    score = float(np.mean((values - again) ** 2))
    result = {"time": began, "took_ms": (time.time() - began) * 1000, "score": score, "anomaly": score > args.threshold}
    client.publish(f"{args.topic}/result", json.dumps(result), qos=1)


mqtt_client = mqtt.Client(CallbackAPIVersion.VERSION2)
mqtt_client.on_connect = lambda client, *_: client.subscribe(f"{args.topic}/in", qos=1)
mqtt_client.on_subscribe = lambda *_: print("ready", flush=True)
mqtt_client.on_message = on_message
mqtt_client.connect("127.0.0.1", args.port)
mqtt_client.loop_forever()
