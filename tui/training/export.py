"""Writes the trained network as a GGUF file that llama.cpp reads as architecture "llama"."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np

from training.model import Guide
from training.tokenizer import END, PRE, SPECIAL, TEMPLATE, Encoder

DESCRIPTION = (
    "A very small model, trained from scratch, that answers questions about running language models with pagewise. "
    "It knows a fixed set of answers and nothing else."
)


def export(guide: Guide, tokenizer: Path, target: Path) -> None:
    """Matrices become F16 and norms F32; the output shares the embedding, as the missing output.weight says."""
    shape = guide.shape
    writer = gguf.GGUFWriter(str(target), "llama")
    writer.add_name("pagewise guide")
    writer.add_author("pagewise")
    writer.add_basename("pagewise-guide")
    writer.add_description(DESCRIPTION)
    writer.add_license("MIT")
    writer.add_languages(["en"])
    writer.add_tags(["text-generation"])
    writer.add_size_label(f"{sum(p.numel() for p in guide.parameters()) / 1e6:.1f}M")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocab)
    _add_tokenizer(writer, tokenizer)
    for name, value in guide.state_dict().items():
        matrix = value.dim() == 2
        writer.add_tensor(name, value.float().numpy().astype(np.float16 if matrix else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, path: Path) -> None:
    model = json.loads(path.read_text("utf-8"))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    encoder = Encoder(path)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(encoder.exact.token_to_id(END))
    writer.add_eos_token_id(encoder.end)
    writer.add_eot_token_id(encoder.end)
    writer.add_pad_token_id(encoder.end)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE)
