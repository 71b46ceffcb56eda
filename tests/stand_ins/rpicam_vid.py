"""Stands in for `rpicam-vid` with an AI Camera, and fails as the camera and the program do.

Frames, metadata and times are on three outputs, as output/output.cpp of https://github.com/raspberrypi/rpicam-apps
writes them. The file that `EDGE_AGENT_STAND_IN` names says what happens: after `stall_after` frames nothing more comes;
after `no_tensors_after` frames go on without tensors; every Nth frame has no metadata (`drop`) or comes twice
(`repeat`), or only every Nth has a tensor (`sparse`); `end_after` N frames, with `code`; `load`: seconds before the
first frame; `values`: places and numbers in the tensor of `numbers`; `crop`; `period`: seconds between frames.
"""

import argparse
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

# A JPEG of 16 x 16 grey pixels.
JPEG = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb00430002010101010102010101020202020204030202020205040403040605060606"
    "05060606070908060709070606080b08090a0a0a0a0a06080b0c0b0a0c090a0a0affc0000b080010001001011100ffc4001f000001050101"
    "0101010100000000000000000102030405060708090a0bffc400b5100002010303020403050504040000017d010203000411051221314106"
    "13516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455"
    "565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9ba"
    "c2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffda0008010100003f0028a28affd9"
)


def control() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(os.environ["EDGE_AGENT_STAND_IN"]).read_text())
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("--timeout", "--codec", "--output", "--width", "--height", "--framerate", "--post-process-file"):
        parser.add_argument(name, required=True)
    for name in ("--metadata", "--metadata-format", "--save-pts"):
        parser.add_argument(name, required=True)
    parser.add_argument("--nopreview", action="store_true", required=True)
    parser.add_argument("--flush", action="store_true", required=True)
    return parser.parse_args()


def metadata(stamp: int, tensor: list[float] | None, crop: str, *, first: bool) -> str:
    entries = {"SensorTimestamp": str(stamp), "ScalerCrop": f'"{crop}"', "ExposureTime": "16651", "FocusFoM": "620"}
    if tensor is not None:
        entries["CnnOutputTensor"] = f"[ {', '.join(f'{value:f}' for value in tensor)} ]"
    entries["Lux"] = "103.447327"
    lines = ",\n".join(f'    "{key}": {value}' for key, value in entries.items())
    return ("" if first else ",\n") + "{\n" + lines + "\n}"


def main() -> None:
    given = arguments()
    stages = json.loads(Path(given.post_process_file).read_text())
    assert Path(stages["imx500_object_detection"]["network_file"]).is_file()
    facts = Path(given.metadata).open("w")  # noqa: SIM115 - until it ends
    times = Path(given.save_pts).open("w")  # noqa: SIM115 - until it ends
    facts.write("[\n")
    times.write("# timecode format v2\n")
    times.flush()
    time.sleep(control().get("load", 0))
    started = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    first = 0
    for number in itertools.count():
        told = control()
        if number == told.get("stall_after"):
            sys.stderr.write("ERROR: *** Device timeout detected, attempting a restart!!! ***\n")
            sys.stderr.flush()
            time.sleep(600)
        if number == told.get("end_after"):
            sys.exit(told.get("code", 0))
        stamp = started + int(number * 1e9 * told.get("period", 0.01)) + number % 7 * 1000
        first = first or stamp
        tensor = None
        if number < told.get("no_tensors_after", 1 << 60) and number % told.get("sparse", 1) == 0:
            tensor = [0.0] * told["numbers"]
            for place, value in told.get("values", []):
                tensor[place] = value
            tensor[-1] = tensor[-1] or number % 2
        repeats = 1 + (number > 0 and number % told.get("repeat", 1 << 60) == 0)
        for _ in range(repeats):
            sys.stdout.buffer.write(JPEG)
            sys.stdout.buffer.flush()
            passed = (stamp - first) // 1000
            times.write(f"{passed // 1000}.{passed % 1000:03}\n")
            times.flush()
            if number == 0 or number % told.get("drop", 1 << 60):
                facts.write(metadata(stamp, tensor, told.get("crop", "(0, 0)/4056x3040"), first=number == 0))
                facts.flush()
        time.sleep(told.get("period", 0.01))


if __name__ == "__main__":
    main()
