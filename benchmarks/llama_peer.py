"""What llama.cpp needs for `side_by_side.py --words`: a GGUF file, and its lines.

What this file is: the text part of a model in transformers' layout as a GGUF file in
float32 (run in the environment that has `gguf` and `llama-cpp-python`), and the code of
a trial. The file has no vocabulary: tokens come from the model's own tokenizer. What it
is not: pictures; those go through another program and other files there.

Run: python benchmarks/llama_peer.py FOLDER FILE
"""

import json
import sys
from pathlib import Path

LLAMA = """
packages = "llama-cpp-python",
from collections import namedtuple
from llama_cpp import Llama
from tokenizers import Tokenizer
Response = namedtuple("Response", "prompt_tokens")
tokenizer = Tokenizer.from_file(folder + "/source/tokenizer.json")
model = Llama(
    folder + "/text.gguf", n_ctx=4096, n_threads={threads}, n_threads_batch={threads},
    verbose=False,
)
def answer(question, tokens):
    ids = tokenizer.encode(CHAT.format(question), add_special_tokens=False).ids
    for count, _ in enumerate(model.generate(ids, temp=0.0, repeat_penalty=1.0), 1):
        yield Response(len(ids))
        if count == tokens:
            return
"""
# GGUF's names; `{}` is the layer.
LAYER = {
    "input_layernorm": "blk.{}.attn_norm", "self_attn.q_proj": "blk.{}.attn_q",
    "self_attn.k_proj": "blk.{}.attn_k", "self_attn.v_proj": "blk.{}.attn_v",
    "self_attn.o_proj": "blk.{}.attn_output",
    "post_attention_layernorm": "blk.{}.ffn_norm", "mlp.gate_proj": "blk.{}.ffn_gate",
    "mlp.up_proj": "blk.{}.ffn_up", "mlp.down_proj": "blk.{}.ffn_down",
}  # fmt: skip
AROUND = {
    "embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}  # fmt: skip


def name_of(tensor: str) -> str | None:
    """GGUF's name of a tensor; None for those of the encoder and the connector."""
    short = tensor.rpartition("text_model.")[2].rpartition("language_model.")[2]
    short = short.removeprefix("model.")
    if not short.startswith("layers."):
        return AROUND.get(short)
    _, layer, rest = short.split(".", 2)
    module, _, kind = rest.rpartition(".")
    return f"{LAYER[module].format(layer)}.{kind}"


def write(folder: Path, target: Path) -> None:
    """The language model of `folder` (llama or mistral) as GGUF in float32."""
    import gguf
    from safetensors.numpy import load_file

    text = json.loads((folder / "config.json").read_text())["text_config"]
    heads, kv_heads = text["num_attention_heads"], text["num_key_value_heads"]
    out = gguf.GGUFWriter(target, "llama")
    out.add_context_length(text["max_position_embeddings"])
    out.add_embedding_length(text["hidden_size"])
    out.add_block_count(text["num_hidden_layers"])
    out.add_feed_forward_length(text["intermediate_size"])
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_rope_dimension_count(text["head_dim"])
    rope = text.get("rope_parameters") or text
    out.add_rope_freq_base(rope["rope_theta"])
    out.add_layer_norm_rms_eps(text["rms_norm_eps"])
    out.add_vocab_size(text["vocab_size"])
    out.add_tokenizer_model("no_vocab")
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    for path in sorted(folder.glob("*.safetensors")):
        for tensor, values in load_file(path).items():
            name = name_of(tensor)
            if name is None:
                continue
            for part, count in (("attn_q", heads), ("attn_k", kv_heads)):
                if f".{part}." in name:
                    # llama.cpp rotates neighbours, transformers the two halves.
                    halves = values.reshape(count, 2, -1, values.shape[1])
                    values = halves.swapaxes(1, 2).reshape(values.shape)
            out.add_tensor(name, values.astype("float32"))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
