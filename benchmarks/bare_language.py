"""The bare loop of a language model: ONNX Runtime GenAI as its own examples use it, with nothing around it.

Run as a process of its own (`python -m benchmarks.bare_language MODEL THREADS`). It answers each line of JSON on
standard input, `{"prompt": …, "tokens": …}`, with one on standard output: `{"first_ms": …, "per_second": …}`, the time
to the first token, and the tokens a second after that.
"""

import json
import os
import sys
import time

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime_genai as og


def main() -> None:
    """Loads the model and answers."""
    folder, threads = sys.argv[1:]
    config = og.Config(folder)
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": int(threads)}}}}))
    model = og.Model(config)
    tokenizer = og.Tokenizer(model)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(generate(model, tokenizer, asked["prompt"], asked["tokens"])), flush=True)


def generate(model: og.Model, tokenizer: og.Tokenizer, prompt: str, tokens: int) -> dict[str, float]:
    """One answer of so many tokens, the likeliest ones."""
    began = time.perf_counter()
    messages = json.dumps([{"role": "user", "content": prompt}])
    prompt_tokens = tokenizer.encode(tokenizer.apply_chat_template(messages))
    options = og.GeneratorParams(model)
    options.set_search_options(max_length=len(prompt_tokens) + tokens, do_sample=False)
    generator, stream = og.Generator(model, options), tokenizer.create_stream()
    generator.append_tokens(prompt_tokens)
    generator.generate_next_token()
    stream.decode(generator.get_next_tokens()[0])
    first, count = time.perf_counter(), 1
    while count < tokens and not generator.is_done():
        generator.generate_next_token()
        stream.decode(generator.get_next_tokens()[0])
        count += 1
    return {"first_ms": (first - began) * 1000, "per_second": (count - 1) / (time.perf_counter() - first)}


if __name__ == "__main__":
    main()
