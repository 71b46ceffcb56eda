"""Every regular expression of the package, with 64 kB of what is worst for it.

Python's `re` backtracks: an expression in which two repeats can take the same characters needs quadratic time or more,
and holds the interpreter's lock meanwhile, so that every other pipeline stands still. A new expression fails
`test_every_pattern_is_in_the_table` until it is written into the table with its worst inputs.
"""

import ast
import gc
import importlib
import re
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import edge_agent
from edge_agent.doctor.broker import FIXES
from edge_agent.settings.models import CHIP_OPTIONS

PACKAGE = Path(edge_agent.__file__).parent
FUNCTIONS = {"compile", "search", "match", "fullmatch", "sub", "split", "findall", "finditer"}
SIZE = 65536
# Seconds of this thread's own time; what is linear takes a few milliseconds.
LIMIT = 0.5

# Fed to each: repeats of what classes, quotes and escapes are made of.
COMMON = ('"', '\\"', "'", " ", "\t", "\n", "a", "0", "-", ".", ":", "/", "[", "{", "a:", "é", "\x00", "0.")

# Where an expression stands -> what is worst for it, besides what all get: (start, repeated part, end).
Worst = tuple[str, str, str]
TABLE: dict[str, tuple[Worst, ...]] = {
    "commands/init.py NAME": (("", "/", ""),),
    r"commands/inspect_model.py [/+#$\s]": (("", "/", ""),),
    "config/editing.py _SIMPLE": (("a", " ", "!"), ("a", "a", "!")),
    "config/yaml_lines.py end of stream|expected ':'": (("", "end of ", ""), ("", "expected ", "")),
    "daemon/thermal.py _CPU": (("", "packag", ""),),
    "daemon/thermal.py _CPU_COOLING": (("", "cpu", ""),),
    "monitoring/page/gallery.py _KEY": (("00000001-", "1", "x"),),
    r"monitoring/page/history.py VmRSS:\s{1,20}(\d{1,15}) kB": (("VmRSS:", " ", ""), ("VmRSS: ", "1", "")),
    "setup/found.py _CAPTURE": (("00-00: ", "a", ""), ("", "00-00: a:b\n", "")),
    "setup/found.py _LISTED": (("", "0 : a\n", ""), ("0 : ", "a", "")),
    "setup/found.py _NO_CAMERA": (("", "bcm2835-is", ""),),
    # Of the shapes that a decoder states for itself, no input.
    r"decoders/nearest.py \[([^\[\]]*)\]": (("", "[", ""),),
    r"decoders/nearest.py \bor\b": (("", "or", ""), ("", "or ", "")),
    r"decoders/recognition.py _(\d{1,4})(?::\d)?$": (("", "_1", ""), ("", "_1:1", ""), ("_", "1", "")),
    "decoders/ssd.py pattern": (("TFLite_Detection_PostProcess", ":3", ""), ("StatefulPartitionedCall:", "3", "")),
    r"doctor/accelerators.py (onnxruntime-\w+), in place of (\w+)": (("onnxruntime-", "a", ", in place of "),),
    "doctor/broker.py pattern": (("the name ", "the name ", "is not"), ("mqtt.", "a", "_fil")),
    "doctor/devices.py NO_CAMERA": (("", "-de", ""),),
    "doctor/devices.py CAMERA": (("", "1 : \n", ""), ("", "1", " :")),
    "doctor/devices.py RIBBON": (("", "rp1-", ""),),
    'doctor/packages.py ^PRETTY_NAME="?(.*?)"?$': (('PRETTY_NAME="', '"', "a"), ("", "PRETTY_NAME=\n", "")),
    r"doctor/packages.py \d+": (),
    "doctor/state.py (0x)?[0-9a-fA-F]{1,8}": (("0x", "f", ""),),
    r"doctor/state.py ^(\w+): +(\d+) kB": (("a:", " ", ""), ("a: ", "1", ""), ("", "a: 1\n", "")),
    r"doctor/state.py ^oom_kill (\d+)$": (("oom_kill ", "1", "a"), ("", "oom_kill 1a\n", "")),
    r"errors.py [^\w.-]": (),
    "language/constraint.py _NUMBER": (("", "1", ""), ("", "1.", ""), ("1", ".1", "x"), ("", "1:1,", "x")),
    "language/intents/words.py _FRACTION": (
        ("", "1", "x"),
        ("", "1 ", "1/3"),
        ("", "1/2", "/"),
        ("", "½", ""),
        ("", "1234 ", "x"),
    ),
    "language/intents/words.py _WORD": (
        ("-", "-", ""),
        ("1", "1", "."),
        ("a", "a", "'"),
        ("", "a'", ""),
        ("1.", "1", "a"),
    ),
    r"language/questions.py \{(\w+)\}": (("{", "a", ""), ("", "{a", "")),
    "models/language.py SPLIT": (("", "-00001", ""), ("", "-00001-of-0000", "1"), ("", "-", ".gguf")),
    "modelfile/facts.py _LITERAL": (
        ("'", "\\'", ""),
        ("", "1", "a"),
        ("", "'a'", "\\"),
        ("", "1e", ""),
        ("'", "a", ""),
    ),
    r"modelfile/inspect.py [^\x00-\x08\x0e-\x1f\x7f\ufffd]+\ufffd?": (("", "\ufffd", ""), ("a", "a", "\ufffd\ufffd")),
    "models/archive.py f'([^/]+/)?{re.escape(MANIFEST)}'": (("", "a", "/model.yam"), ("", "model.yaml", "/")),
    r"models/pack.py [^\w.-]": (),
    "models/registry.py NAME": (("a", ".", "/"),),
    "models/registry.py ^[A-Za-z0-9][A-Za-z0-9._-]*$": (("a", ".", "\n\n"),),
    "models/registry.py ^[0-9a-f]{64}$": (),
    r"models/registry.py ^https://[^\s@?#]+$": (("https://", "a", " "),),
    "models/registry.py MIRROR_ADDRESS": (("http://a", "/", "?"), ("file:///", "a", "#")),
    "models/registry.py f'^{NAME.pattern}$'": (("a", ".", "\n\n"),),
    "models/soundness.py bad.alloc|allocate memory": (("", "bad.allo", ""), ("", "allocate memor", "")),
    "mqtt/client_ids.py _SUFFIX": (("", "-" + "a" * 12, ""), ("", "-home-assistan", "")),
    r"mqtt/endpoint.py \[SSL: (\w+)\]": (("[SSL: ", "A", ""), ("", "[SSL: A", "")),
    "preprocess/jpeg.py _MARKER_IN_SCAN": (("", "\xff", ""), ("", "\xff\x00", "")),
    r"publish/actions.py \{(\w{1,16})\}": (("{", "a", ""), ("", "{a", ""), ("", "{" + "a" * 16, "")),
    r"publish/policy.py \{\w+\}": (("{", "a", ""), ("", "{a", "")),
    "settings/base.py TOPIC_LEVEL": (("a", "a", "\n"),),
    "settings/base.py TOPIC_PREFIX": (("a", "/", ""), ("a", "/a", "\n")),
    r"settings/broker.py (mqtts?|wss?)://[^\s/]+(/\S*)?": (("mqtt://a", "/", " "), ("mqtt://", "a", " ")),
    "settings/monitoring.py _ADDRESS": (("[", ":", ""), ("", "a", ":")),
    r"settings/monitoring.py ^[A-Za-z0-9._-]{1,253}$(?!\n)": (("", "a", "\n"),),
    "settings/pipelines.py [{}]": (),
    r"settings/pipelines.py \{(device_id|pipeline|label)\}": (("", "{device_id", ""), ("", "{pipelin", "")),
    "settings/pipelines.py TIME_OF_DAY": (("", "0", "\n"), ("2", "3:5", "")),
    r"settings/series.py \d+": (),
    r"settings/streams.py \s": (),
    "settings/streams.py ^[^-]": (),
    "settings/text.py FUNCTION": (("", "a", "!"),),
    r"settings/tools.py ^[A-Za-z_]\w{0,63}$(?!\n)": (("", "a", "\n"),),
    "settings/tools.py _PLACEHOLDER": (("{", "a", ""), ("", "{a", "")),
    r"settings/http_access.py ^[^:\x00-\x1f\x7f]+$(?!\n)": (("", "a", ":"), ("", "a", "\n")),
    "settings/update.py CHANNEL": (("", "a", "\n"),),
    "settings/update.py URL": (("http://a", "/", " "), ("https://", "a", "\n")),
    "sources/child.py _ENVIRONMENT": (("LC_", "A", "-"), ("TERMUX_", "A", "\n")),
    "sources/child.py _URL": (("", "a+", ""), ("", "a:/", ""), ("", "http://", "")),
    r"sources/child.py [\r\n]+": (("", "\r", "a"), ("", "\r\na", "")),
    "sources/iio_device.py _TYPE": (("le:s", "1", "/"), ("le:s8/8>>", "1", "a")),
    "sources/iio_device.py _KIND": (),
    "system/address.py _HOST": (("[", "a", ""), ("a:", "1", "a")),
    "system/address.py [?#]": (),
    "system/address.py [/?#]": (),
    "system/cache.py _PROCESSOR": (("flags", " ", ""), ("", "flags \n", ""), ("", "flags\n\n", "")),
    r"system/memory.py MemAvailable: *(\d+) kB": (("MemAvailable:", " ", ""), ("", "MemAvailable: 1", "")),
    r"system/memory.py MemTotal: *(\d+) kB": (("MemTotal:", " ", ""), ("", "MemTotal: 1", "")),
    r"system/memory.py ^Pss: *(\d+) kB": (("Pss:", " ", ""), ("", "Pss: 1", "")),
    r"system/memory.py VmData:\s*(\d+) kB": (("VmData:", "\n", ""), ("", "VmData:\n1", "")),
    "system/secret.py ENV": (("${env:", "A", ""), ("", "${env:A", "")),
    "system/units.py _DURATION": (("1", " ", "x"), ("", "1", "x")),
    "system/units.py _SIDES": (("1", " ", ""), ("1 x", " ", "")),
    "system/units.py _SIZE": (("1", " ", "x"), ("1.", "1", "x")),
    "update/releases.py [0-9a-f]{64}": (),
    "update/releases.py NAME": (),
    "commands/release_agent.py _PLATFORM": (),
    "update/state.py _KEY": (("", "1", "-"),),
    "update/state.py _SHA256": (),
    r"chips/hailo.py failed with error: (\d{1,4})": (("", "failed with error: ", ""), ("failed with error: ", "1", "")),
    r"chips/rknn.py (?:API|librknnrt) version:? ?v?(\d[\w.]*)": (
        ("", "API version: v", ""),
        ("API version: 1", ".", "-"),
    ),
    r"chips/rknn.py ^E (?:RKNN: \[[\d:.]+\] )?(.+)$": (
        ("E RKNN: [", "1", ""),
        ("", "E RKNN: [1\n", ""),
        ("", "E a\n", ""),
    ),
    "chips/rknn.py _SENTENCE": (),
    "commands/published.py _NAME": (("a", "a", "\n"), ("", "$", "")),
    r'doctor/debian.py ^VERSION_CODENAME="?([\w-]+)': (
        ('VERSION_CODENAME="', "a", ""),
        ("", "VERSION_CODENAME=\n", ""),
    ),
    "doctor/debian.py _FIELD": (("", "Package: \n", ""), ("Package: ", "a", "")),
    r"doctor/hailo.py Device Architecture: (\w+)": (("", "Device Architecture: ", ""),),
    r"doctor/hailo.py Firmware Version: (\d+\.\d+\.\d+)": (
        ("Firmware Version: ", "1", ""),
        ("Firmware Version: ", "1.", ""),
    ),
    r"doctor/hailo.py \d+": (),
    "doctor/hailo.py _BINDING": (("hailort-", "1", ""), ("", "hailort-1.", "")),
    "doctor/hailo.py _LIBRARY": (("libhailort.so.", "1", ""), ("", "libhailort.so.1.", "")),
    "doctor/hailo.py _USB": (("", "hail", ""), ("", "ugen30", "")),
    r"doctor/rockchip.py \d+": (),
    r"doctor/rockchip.py librknnrt version: (\d+\.\d+\.\d+)": (
        ("librknnrt version: ", "1", ""),
        ("", "librknnrt version: 1.", ""),
    ),
    "home_assistant/ids.py -[0-9a-f]{12}$": (("", "-a", "\n"), ("", "-" + "a" * 12, "")),
    "home_assistant/ids.py [^a-zA-Z0-9_-]": (),
    "home_assistant/quantities.py [._:]+": (("", ".a", ""),),
    "keeping/importing.py _ID": (("", "a" * 15 + "-", ""),),
    "keeping/recording.py NAME": (("12345678-", "-", ""), ("12345678-", "a", ".recordin")),
    "keeping/pull.py _HOST": (("a", ".", "!"), ("a@a", ".", "!"), ("", "a@", "")),
    "language/request.py FUNCTION": (("", "a", "!"),),
    "models/bundle.py ^[0-9a-f]{64}$": (),
    "sample_store/store.py _NAME": (),
    r"settings/models.py ^[a-z][a-z0-9_-]{0,63}$(?!\n)": (("", "a", "\n"),),
    "settings/models.py pattern": (("/", "a", "\n"),),
    "sources/frame_matcher.py _CROP": (('"(', "1", ")"), ("(", "1", ", 1)/")),
    "sources/frame_matcher.py _ENTRY": (('"a": ', " ", "\nx"), ("", " ", "x"), ('"a": ', ",", "\nx")),
    "sources/frame_matcher.py _TIME": (("", "1", "."),),
    r"system/cache.py ^([0-9a-f]{64})(?: (\{.*\}))?$": (("", "a" * 64 + " {\n", ""), ("a" * 64 + " {", "}", "a")),
    "system/chips.py _ARCHITECTURE": (("", "Device Architecture: HAILO", ""),),
    "system/chips.py _ROCKCHIP": (("", "rockchip,rk", ""), ("", "rockchip,rv1126", "")),
    "system/zip_files.py _NAME": (),
}
# Patterns that are variables where they are used.
VARIABLES = {
    "settings/models.py pattern": tuple({one for options in CHIP_OPTIONS.values() for one in options.values()}),
    "decoders/ssd.py pattern": ("TFLite_Detection_PostProcess(?::([0-3]))?", "StatefulPartitionedCall:([0-3])"),
    "doctor/broker.py pattern": tuple(pattern for pattern, _ in FIXES),
}


class Site(NamedTuple):
    """A place where an expression is used."""

    key: str
    pattern: "re.Pattern[str] | re.Pattern[bytes]"
    uses: frozenset[str]


@cache
def sites() -> tuple[Site, ...]:
    texts = {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
    package = "\n".join(texts.values())
    return tuple(site for path, text in texts.items() for site in _sites(path, text, package))


def _sites(path: Path, text: str, package: str) -> Iterator[Site]:
    tree = ast.parse(text)
    names = {id(node.value): node.targets[0] for node in ast.walk(tree) if isinstance(node, ast.Assign)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Attribute(ast.Name("re"), "compile"), [pattern, *flags]):
                target = names.get(id(node))
                assert isinstance(target, ast.Name), f"{path}: re.compile() without a name"
                called = rf"\b{target.id}\.({'|'.join(FUNCTIONS)})\b"
                uses = set(re.findall(called, package))
                yield from _evaluated(path, target.id, pattern, flags, uses or {"match"})
            case ast.Call(ast.Attribute(ast.Name("re"), function), [pattern, *others]) if function in FUNCTIONS:
                yield from _evaluated(path, "", pattern, others, {function})
        # pydantic's, with Python's expressions: see settings/base.py
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            if keyword.arg == "pattern":
                yield from _evaluated(path, "", keyword.value, [], {"match"})


def _evaluated(path: Path, name: str, pattern: ast.expr, others: list[ast.expr], uses: set[str]) -> Iterator[Site]:
    where = path.relative_to(PACKAGE)
    literal: Any = pattern.value if isinstance(pattern, ast.Constant) else None
    shown = literal.decode("latin-1") if isinstance(literal, bytes) else literal or ast.unparse(pattern)
    key = f"{where} {name or shown}"
    flags = 0
    for source in map(ast.unparse, others):
        if source.startswith("re.") and "(" not in source:
            flags |= eval(source, {"re": re})
    found: tuple[Any, ...] = VARIABLES.get(key, (literal,))
    if found == (None,):
        module = importlib.import_module(".".join(("edge_agent", *where.with_suffix("").parts)))
        found = (eval(ast.unparse(pattern), dict(vars(module))),)
    for one in found:
        yield Site(key, re.compile(one, flags), frozenset(uses))


def call(site: Site, use: str, text: str) -> Callable[[], Any]:
    data: Any = text if isinstance(site.pattern.pattern, str) else text.encode("latin-1", "replace")
    pattern: Any = site.pattern
    match use:
        case "sub":
            return lambda: pattern.sub(lambda _: data[:0], data)
        case "finditer":
            return lambda: list(pattern.finditer(data))
        case _:
            return lambda: getattr(pattern, use)(data)


def test_every_pattern_is_in_the_table() -> None:
    found = {site.key for site in sites()}
    assert found - TABLE.keys() == set(), "write its worst inputs into the table"
    assert TABLE.keys() - found == set(), "is gone: take it out of the table"


@pytest.mark.parametrize("key", TABLE)
def test_no_pattern_takes_more_than_linear_time(key: str) -> None:
    worst = [(one, SIZE) for one in TABLE[key]]
    worst += [(("", unit, end), SIZE // 8) for unit in COMMON for end in ("", "!")]
    for site in sites():
        if site.key != key:
            continue
        for ((start, unit, end), size), use in ((one, use) for one in worst for use in site.uses):
            run = call(site, use, start + unit * (size // len(unit)) + end)
            gc.disable()  # a collection of what other tests have left is not the expression's time
            try:
                began = time.thread_time()
                run()
                took = time.thread_time() - began
            finally:
                gc.enable()
            assert took < LIMIT * size / SIZE, f"{use} takes {took:.2f} s for {size} bytes of {unit!r} after {start!r}"
