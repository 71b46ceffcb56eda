"""Text from outside is read by `system/text.py` alone: there byte order marks, line ends and bounds are seen to.

A new reader of its own fails here until it uses that module, or is listed with the reason why it need not.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import edge_agent

PACKAGE = Path(edge_agent.__file__).parent
# Where a reader of its own stands -> why the text is not from outside, or not text.
OWN_READERS = {
    "chips/rknn.py decode": "what a library has written, on a Python that has none of ours",
    "commands/demo_meter.py read_text": "comes with the package",
    "commands/demo_session.py json.loads": "results of an agent that the demonstration has started",
    "commands/fleet.py decode": "one of two words",
    "config/http_identity.py decode": "Base64, made here",
    "daemon/maintenance.py json.loads": "the report of a process of ours",
    "decoders/raw.py decode": "Base64, made here",
    "evaluation/plots.py decode": "ASCII, made there",
    "keeping/recording_export.py open": "written, not read",
    "keeping/replay.py json.loads": "of what has just been encoded",
    "language/genai_files.py json.loads": "of a text read there; keys may not be there twice",
    "language/schema_problem.py json.loads": "a message of a library",
    "modelfile/facts.py decode": "encoded here",
    "modelfile/facts.py json.loads": "a text in a model file, read there",
    "modelfile/onnx_files.py decode": "a constant",
    "models/registry.py read_text": "comes with the package",
    "quantization/tflite.py decode": "names in a model that has been read already, as the tool has them",
    "sources/packet_ring.py decode": "Base64, made here",
    "sources/packets.py decode": "a decoder of video",
    "sources/rtsp.py decode": "headers, byte by byte",
    "sources/stream_server.py decode": "Base64, made here",
    "testing/engine_contract.py read_text": "comes with the package",
    "system/worker_process.py json.loads": "messages between processes of ours",
}


def readers() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())) if where != "system/text.py" else ():
            match node:
                case ast.Call(ast.Attribute(ast.Name("json"), "load" | "loads" as name)):
                    yield f"{where} json.{name}"
                case ast.Call(ast.Attribute(ast.Name("text"), "read_text" | "decode")):
                    pass  # system/text.py
                case ast.Call(ast.Attribute(_, "read_text")):
                    yield f"{where} read_text"
                case ast.Call(ast.Attribute(_, "open"), _, keywords) if any(key.arg == "encoding" for key in keywords):
                    yield f"{where} open"
                case ast.Call(ast.Attribute(_, "decode"), [] | [ast.Constant(str())] | [ast.Constant(str()), _]):
                    yield f"{where} decode"


def test_text_from_outside_is_read_in_one_place() -> None:
    found = set(readers())
    assert found - OWN_READERS.keys() == set(), "use system/text.py"
    assert OWN_READERS.keys() - found == set(), "is gone: take it out of the list"
