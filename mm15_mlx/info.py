"""`mm15-mlx info`: a model's shape and size, and what a picture costs, without loading.

Costs are counted, not measured: matrix products of the encoder, the connector and the
decoder, and the bytes of the KV cache.
"""

import json
import math
from dataclasses import asdict
from typing import Any

from mlx.utils import tree_flatten

from mm15_mlx import costs
from mm15_mlx.checkpoint import WeightsError, read_config, weight_files
from mm15_mlx.config import ModelConfig
from mm15_mlx.images import load_picture
from mm15_mlx.input_config import visible
from mm15_mlx.load import find_model
from mm15_mlx.mm15 import MM15, module_of
from mm15_mlx.tiling import plan

PARTS = ("encoder", "connector", "decoder")


def describe(name: str) -> dict[str, Any]:
    """Shape, parameters, size, licence and source, from the folder's headers."""
    folder = find_model(name)
    config = read_config(folder)
    size = 0
    quantized = False
    for file, tensors in weight_files(folder).items():
        for path, stored in tensors.items():
            if module_of(path) not in PARTS:
                raise WeightsError(
                    f"{file} holds {path}, which is no part of this model; "
                    "fetch or convert the model again"
                )
            size += stored.nbytes
            quantized = quantized or path.endswith(".scales")
    parameters = _parameters(config)
    provenance = config.provenance or {}
    return {
        "model": name,
        "vision": _vision(config),
        "connector": asdict(config.connector_config),
        "decoder": _decoder(config),
        "parameters": {**parameters, "total": sum(parameters.values())},
        "bytes": size,
        "quantized": quantized,
        "licence": provenance.get("licence", "unknown"),
        "source": provenance.get("source", "unknown"),
        "revision": provenance.get("revision", "unknown"),
    }


def _parameters(config: ModelConfig) -> dict[str, int]:
    """Of each part. Counted on a model that is never computed, because the shapes of
    packed weights leave their bits open."""
    counts = dict.fromkeys(PARTS, 0)
    for path, array in tree_flatten(MM15(config).parameters()):
        counts[module_of(path)] += math.prod(array.shape)
    return counts


def _vision(config: ModelConfig) -> dict[str, Any]:
    v = config.vision_config
    return {
        "layers": v.num_hidden_layers, "width": v.hidden_size,
        "heads": v.num_attention_heads, "patch": v.patch_size,
        "view": config.tiling.tile_size,
    }  # fmt: skip


def _decoder(config: ModelConfig) -> dict[str, Any]:
    t = config.text_config
    return {
        "layers": t.num_hidden_layers, "width": t.hidden_size,
        "heads": t.num_attention_heads, "kv_heads": t.num_key_value_heads,
        "head_dim": t.head_dim, "experts": t.num_experts, "vocabulary": t.vocab_size,
        "context": t.max_position_embeddings,
    }  # fmt: skip


def picture_cost(config: ModelConfig, path: str) -> dict[str, Any]:
    """Grid, views, tokens, and the counted work and memory (float32) of one picture."""
    picture = load_picture(path)
    tiling = plan(*picture.size, config.tiling)
    views = len(tiling.indices)
    tokens = tiling.tokens(config.connector_config.pooled_grid)
    encode = views * (costs.encoder_flop(config) + costs.connector_flop(config))
    numbers = {"decoder": costs.decoder_weights(config, active=False)}
    return {
        "path": path,
        "width": picture.size[0],
        "height": picture.size[1],
        "grid": list(tiling.grid),
        "views": views,
        "tokens": tokens,
        "encode_gflop": round(encode / 1e9, 1),
        "prefill_gflop": round(costs.prefill_flop(config, numbers, tokens) / 1e9, 1),
        "kv_cache_bytes": round(tokens * costs.kv_bytes(config, 4)),
        "activation_bytes": 4 * costs.alive(config, views, tokens).most,
    }


def run(name: str, image: str | None, json_output: bool) -> None:
    """Print the description, as text or as one JSON document."""
    config = read_config(find_model(name))
    cost = picture_cost(config, image) if image else None
    facts = describe(name)
    if cost:
        facts["image"] = cost
    if json_output:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    print(_text(facts))


def _text(facts: dict[str, Any]) -> str:
    v, c, d, p = (facts[k] for k in ("vision", "connector", "decoder", "parameters"))
    lines = [
        f"model       {facts['model']} ({facts['bytes'] / 1e6:.1f} MB, "
        f"{p['total'] / 1e6:.1f} M parameters"
        f"{', quantised' if facts['quantized'] else ''})",
        f"encoder     ViT {v['layers']} layers × {v['width']}, patch {v['patch']}, "
        f"views of {v['view']} px ({p['encoder'] / 1e6:.1f} M)",
        f"connector   {c['type']}, {c['num_visual_tokens']} tokens a view "
        f"({p['connector'] / 1e6:.1f} M)",
        f"decoder     {d['layers']} layers × {d['width']}, "
        f"{d['heads']}/{d['kv_heads']} heads of {d['head_dim']}, "
        f"context {d['context']} ({p['decoder'] / 1e6:.1f} M)",
        f"licence     {facts['licence']}",
        f"source      {facts['source']}",
    ]
    if "image" in facts:
        i = facts["image"]
        rows, columns = i["grid"]
        lines += [
            f"picture     {i['path']}: {i['width']} × {i['height']}",
            f"tiling      {rows} × {columns} tiles, {i['views']} views, "
            f"{i['tokens']} tokens",
            f"cost        encode {i['encode_gflop']} GFLOP, prefill "
            f"{i['prefill_gflop']} GFLOP, KV cache {i['kv_cache_bytes'] / 1e6:.1f} MB, "
            f"activations {i['activation_bytes'] / 1e6:.0f} MB",
        ]
    return "\n".join(map(visible, lines))  # a folder's own words are among them
