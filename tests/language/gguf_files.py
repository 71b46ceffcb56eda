"""A language model with random weights as a .gguf file; the shapes and the tokens are those of `model_files`."""

from pathlib import Path

import gguf
import numpy as np

from tests.language.model_files import CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, SMALL, SPECIAL, Shape, tokenizer


def write_gguf(path: Path, shape: Shape = SMALL, seed: int = 1, *, template: str = CHAT_TEMPLATE) -> Path:
    """Writes a file that llama.cpp loads; returns it. Its rows must be multiples of 32 long."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.head_size)
    words = tokenizer(shape)["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(list(words["vocab"]))
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if word in SPECIAL else kinds.NORMAL for word in words["vocab"]])
    writer.add_token_merges(words["merges"])
    writer.add_bos_token_id(END_OF_TEXT)
    writer.add_eos_token_id(END_OF_TURN)
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)

    def add(name: str, rows: int, columns: int) -> None:
        weights = random.standard_normal((rows, columns), np.float32) / np.sqrt(columns, dtype=np.float32)
        writer.add_tensor(f"{name}.weight", weights)

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(shape.hidden, np.float32))

    add("token_embd", shape.vocabulary, shape.hidden)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm")
        add(f"{block}.attn_q", shape.hidden, shape.hidden)
        add(f"{block}.attn_k", shape.kv_heads * shape.head_size, shape.hidden)
        add(f"{block}.attn_v", shape.kv_heads * shape.head_size, shape.hidden)
        add(f"{block}.attn_output", shape.hidden, shape.hidden)
        norm(f"{block}.ffn_norm")
        add(f"{block}.ffn_gate", shape.feed_forward, shape.hidden)
        add(f"{block}.ffn_up", shape.feed_forward, shape.hidden)
        add(f"{block}.ffn_down", shape.hidden, shape.feed_forward)
    norm("output_norm")
    add("output", shape.vocabulary, shape.hidden)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
