"""What a runtime's refusal of a model or of an input means, and what to do about it, in place of the runtime's words.

The messages are those of ONNX Runtime 1.20 to 1.32 (onnxruntime/core/graph/model.cc, model_load_utils.h,
session/inference_session.cc) and of LiteRT 2 (tensorflow/lite/core/subgraph.cc, op_resolver, schema).
"""

_LOCATIONS = (".cc:", ".h:", ".hpp:", ".cpp:")
_MAX_SIGNATURE = 60  # words


def of_onnx_runtime(message: str) -> str:
    """The meaning of a message of ONNX Runtime; its own words, without places in C++, where it is not known."""
    for meaning in (_memory, _version, _operator, _shape, _weights):
        if found := meaning(message):
            return found
    text = message.split(" : ", 3)[-1] if message.startswith("[ONNXRuntimeError]") else message
    if text.startswith("Load model ") and " failed:" in text:
        text = text.partition(" failed:")[2]
    return _without_places(text)


def of_tflite(message: str) -> str:
    """The meaning of a message of LiteRT or tflite-runtime; its own words where it is not known."""
    if name := _between(message, "unresolved custom op: ", "\n").removesuffix("."):
        # What is compiled for an accelerator is known by its operators, and explained where accelerators are chosen.
        what = "" if name.startswith(("edgetpu-", "ethos-u")) else ": convert it with built-in operators only"
        return f"it has the custom operator {name}, which the runtime does not have{what}"
    if "Select TensorFlow op(s)" in message:
        names = _between(message, "(Flex", ")")
        which = f" ({names})" if names else ""
        return f"it has operators of TensorFlow itself{which}: convert it with built-in operators only"
    newer = "install a newer runtime (ai-edge-litert), or convert the model with an older converter"
    if "find op for builtin opcode" in message:
        name, version = _between(message, "opcode '", "'"), _between(message, "version '", "'")
        return f"it has version {version} of the operator {name}, which this runtime does not have: {newer}"
    if number := _between(message, "builtin_code out of range: ", "."):
        return f"it has an operator that this runtime does not know (number {number}): {newer}"
    if version := _between(message, "is schema version ", " "):
        return f"it is of version {version} of the file format, and this runtime reads version 3: {newer}"
    return _without_places(message)


def _memory(message: str) -> str:
    if "smaller than requested bytes of " not in message:  # onnxruntime/core/framework/bfc_arena.cc
        return ""
    return "can't allocate memory: models would take more than model_memory allows, or 80 % of this machine's memory"


def _version(message: str) -> str:
    if found := _between(message, "Unsupported model IR version: ", ","):
        most = _between(message, "max supported IR version: ", "\n").rstrip(".")
        return (
            f"it has IR version {found}, and this runtime reads up to {most}: install a newer onnxruntime, or export "
            "it with an older `onnx` package"
        )
    if found := _between(message, "Opset ", " is under development"):
        domain = _between(message, "support for domain ", " ")
        most = _between(message, "is till opset ", ".")
        how = f"export it with opset {most} or less" if domain == "ai.onnx" else "export it with an older one"
        known = f"it needs opset {found} of {domain}, and this runtime has up to {most}"
        return f"{known}: {how}, or install a newer onnxruntime"
    return ""


def _operator(message: str) -> str:
    if " is not a registered function/op" in message:
        whole = message.partition(" is not a registered function/op")[0].split(" ")[-1]
        domain, _, name = whole.partition("(")[0].rpartition(":")
        what = "install a newer onnxruntime" if domain.startswith("com.microsoft") else "export it without it"
        return f"it has the operator {name} of {domain or 'ai.onnx'}, which this runtime does not have: {what}"
    if name := _between(message, "No Op registered for ", " "):
        opset = _between(message, "domain_version of ", "\n")
        return f"opset {opset} has no operator {name}: was it exported for another opset, or does it need a custom one?"
    if name := _between(message, "Could not find an implementation for ", " "):
        name, _, opset = name.rstrip(")").partition("(")
        return (
            f"this runtime can't compute {name} (opset {opset}) for the element type that the model uses: export it as "
            "float32 or int8"
        )
    return ""


def _shape(message: str) -> str:
    if name := _between(message, "Invalid rank for input: ", " "):
        got, expected = _between(message, "Got: ", " "), _between(message, "Expected: ", " ")
        return f"its input {name} has {expected} axes, and {got} were given"
    name = _between(message, "Got invalid dimensions for input: ", " for the following indices")
    if not name:
        return ""
    wrong = [
        (_between(line, "index: ", " "), _between(line, "Got: ", " "), _between(line, "Expected: ", "\n"))
        for line in message.splitlines()
        if "index: " in line
    ]
    if [index for index, _, _ in wrong] == ["0"]:
        [(_, got, expected)] = wrong
        return (
            f"it takes batches of {expected} only, and {got} was given (input {name}): export it with a batch size of "
            "1, or a dynamic one"
        )
    axes = ", ".join(f"axis {index} has {got} in place of {expected}" for index, got, expected in wrong)
    return f"its input {name} is of another size: {axes}"


def _weights(message: str) -> str:
    if "External initializer: " not in message:  # onnxruntime/core/framework/tensorprotoutils.cc
        return ""
    name, size = _between(message, "External initializer: ", " "), _between(message, "file_length: ", " ")
    return (
        f"its weights {name} lie past the end of the file that keeps them ({size} bytes): it is cut off, or of another "
        "model: copy it again"
    )


def _between(text: str, start: str, end: str) -> str:
    """What stands between two texts, or behind the first where the second does not follow; "" without the first."""
    return text.partition(start)[2].partition(end)[0].strip()


def _without_places(text: str) -> str:
    """A message without files, lines and signatures of functions in C++."""
    words, kept, at = text.split(" "), list[str](), 0
    while at < len(words):
        word, at = words[at], at + 1
        if not any(location in word for location in _LOCATIONS):
            kept.append(word)
        elif word.startswith("/"):  # ONNX Runtime's macros add the function
            at = _behind_signature(words, at)
    return " ".join(kept)


def _behind_signature(words: list[str], at: int) -> int:
    """The place of the first word behind a function's signature; `at`, if there is none."""
    depth, seen = 0, False
    for place in range(at, min(at + _MAX_SIGNATURE, len(words))):
        depth += words[place].count("(") - words[place].count(")")
        seen = seen or "(" in words[place]
        if seen and depth <= 0:
            behind = place + 1
            return behind + 1 if words[behind : behind + 1] == ["const"] else behind
    return at
