"""Writes the GGUF files of a checkpoint: home-mini-q8_0.gguf and others into the output folder.

`python export.py --commit` also puts the Q8_0 file beside this script as home-mini.gguf, from where pled is built with it.
Needs tokenizer.json (tokenizer.py) and the checkpoint (train.py).
"""

import argparse
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType, quants

import dataset
import shape
from shape import FULL, SLIDING
from tokenizer import BYTES, SPECIALS

TEMPLATE = dataset.HERE / "../../src/tokenizer/chat/gemma4.jinja"
FORMATS = {
    "f32": (Type.F32, LlamaFileType.ALL_F32),
    "q8_0": (Type.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (Type.Q4_0, LlamaFileType.MOSTLY_Q4_0),
    "q4_k": (Type.Q4_K, LlamaFileType.MOSTLY_Q4_K_M),
}

GLOBAL_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
    "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
    "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
    "model.norm.weight": "output_norm.weight",
}
LAYER_NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "post_attention_layernorm.weight": "post_attention_norm.weight",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight",
    "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "layer_scalar": "layer_output_scale.weight",
    "per_layer_input_gate.weight": "inp_gate.weight",
    "per_layer_projection.weight": "proj.weight",
    "post_per_layer_input_norm.weight": "post_norm.weight",
}


def tensors(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The file's tensors by their names there. Nothing is left over: an unknown name is an error."""
    half = shape.FULL_HEAD_DIM // 2
    n_rotated = int(half * shape.ROTARY_FRACTION)
    # Divisors of the full layers' frequencies: what is not rotated is divided until it stands still.
    made = {"rope_freqs.weight": np.array([1.0] * n_rotated + [1e30] * (half - n_rotated), dtype=np.float32)}
    for name, tensor in state.items():
        if name == "lm_head.weight":
            assert torch.equal(tensor, state["model.embed_tokens.weight"]), "the head is the embedding"
            continue
        if name in GLOBAL_NAMES:
            to = GLOBAL_NAMES[name]
        else:
            _, layers, i, part = name.split(".", 3)
            assert layers == "layers", name
            to = f"blk.{i}.{LAYER_NAMES[part]}"
        made[to] = np.ascontiguousarray(tensor.float().numpy())
    return made


def format_of(name: str, array: np.ndarray, wanted: Type) -> Type:
    """Vectors stay F32. Rows that no super-block fits take Q5_0 instead of Q4_K, as is usual."""
    if array.ndim < 2:
        return Type.F32
    if wanted == Type.Q4_K and array.shape[-1] % 256:
        return Type.Q5_0
    return wanted


def quantized(array: np.ndarray, to: Type) -> np.ndarray:
    return q4_k(array) if to == Type.Q4_K else quants.quantize(array, to)


def q4_k(array: np.ndarray) -> np.ndarray:
    """Q4_K by plain rounding (the gguf package reads it but does not write it): 8 blocks of 32 share two half floats."""
    x = array.reshape(-1, 8, 32)
    low = np.minimum(x.min(-1), 0)
    step = (x.max(-1) - low) / 15
    d, d_low = (np.float16(v.max(-1, keepdims=True) / 63).astype(np.float32) for v in (step, -low))
    divided = lambda v, by: np.divide(v, by, out=np.zeros(np.broadcast_shapes(v.shape, by.shape), np.float32), where=by > 0)
    scale, offset = (np.clip(np.rint(divided(*v)), 0, 63) for v in ((step, d), (-low, d_low)))
    codes = np.clip(np.rint(divided(x + (d_low * offset)[..., None], (d * scale)[..., None])), 0, 15).astype(np.uint8)
    s, o = scale.astype(np.uint8), offset.astype(np.uint8)
    packed = [s[:, :4] | s[:, 4:] >> 4 << 6, o[:, :4] | o[:, 4:] >> 4 << 6, s[:, 4:] & 15 | (o[:, 4:] & 15) << 4]
    codes = codes[:, 0::2] | codes[:, 1::2] << 4
    halves = np.concatenate((d, d_low), -1).astype(np.float16).view(np.uint8)
    blocks = np.concatenate((halves, *packed, codes.reshape(-1, 128)), -1)
    return blocks.reshape(*array.shape[:-1], -1)


def add_shape(w: gguf.GGUFWriter) -> None:
    n = len(shape.LAYERS)
    w.add_context_length(shape.CONTEXT)
    w.add_embedding_length(shape.HIDDEN)
    w.add_embedding_length_per_layer_input(shape.PER_LAYER)
    w.add_block_count(n)
    w.add_feed_forward_length([shape.FEED_FORWARD * (1 if i < n - shape.N_SHARED else 2) for i in range(n)])
    w.add_head_count(shape.N_HEADS)
    w.add_head_count_kv(1)
    w.add_key_length(shape.FULL_HEAD_DIM)
    w.add_value_length(shape.FULL_HEAD_DIM)
    w.add_key_length_swa(shape.HEAD_DIM)
    w.add_value_length_swa(shape.HEAD_DIM)
    w.add_rope_dimension_count(shape.FULL_HEAD_DIM)
    w.add_rope_dimension_count_swa(shape.HEAD_DIM)
    config = shape.config()
    w.add_rope_freq_base(config.rope_parameters[FULL]["rope_theta"])
    w.add_rope_freq_base_swa(config.rope_parameters[SLIDING]["rope_theta"])
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_sliding_window(shape.WINDOW)
    w.add_sliding_window_pattern([kind == SLIDING for kind in shape.LAYERS])
    w.add_shared_kv_layers(shape.N_SHARED)
    w.add_final_logit_softcapping(shape.SOFT_CAP)


def add_vocabulary(w: gguf.GGUFWriter, path: Path) -> None:
    model = json.loads(path.read_text())["model"]
    texts = sorted(model["vocab"], key=model["vocab"].get)
    assert list(range(shape.VOCAB)) == sorted(model["vocab"].values())
    types = []
    for text in texts:
        if text in SPECIALS:
            types.append(SPECIALS[text])
        elif text in BYTES:
            types.append(gguf.TokenType.BYTE)
        else:
            types.append(gguf.TokenType.UNUSED if text.startswith("<unused") else gguf.TokenType.NORMAL)
    # No merge makes it, so training has read two newlines as two tokens; engines of Gemma 4 take such a token whole.
    blank_line = texts.index("\n\n")
    texts[blank_line], types[blank_line] = "<unused_blank_line>", gguf.TokenType.UNUSED
    w.add_tokenizer_model("gemma4")
    w.add_token_list([text.encode() for text in texts])
    w.add_token_types(types)
    w.add_token_scores([0.0] * len(texts))
    w.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    w.add_bos_token_id(texts.index("<bos>"))
    w.add_eos_token_id(texts.index("<eos>"))
    w.add_unk_token_id(texts.index("<unk>"))
    w.add_pad_token_id(texts.index("<pad>"))
    w.add_mask_token_id(texts.index("<mask>"))
    w.add_add_bos_token(True)
    w.add_add_space_prefix(False)
    w.add_chat_template(TEMPLATE.read_text())


def write(path: Path, state: dict[str, torch.Tensor], wanted: Type, file_type: LlamaFileType) -> None:
    w = gguf.GGUFWriter(str(path), "gemma4")
    w.add_type("model")
    w.add_name("home-mini")
    w.add_description("Plain home commands to tool calls")
    w.add_license("MIT OR Apache-2.0")
    w.add_languages(["en"])
    w.add_quantization_version(2)
    w.add_file_type(file_type)
    # Commands have one right answer.
    w.add_float32("general.sampling.temp", 0.0)
    add_shape(w)
    add_vocabulary(w, dataset.HERE / "tokenizer.json")
    for name, array in tensors(state).items():
        to = format_of(name, array, wanted)
        if to == Type.F32:
            w.add_tensor(name, array)
        else:
            w.add_tensor(name, quantized(array, to), raw_dtype=to)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=dataset.OUT / "checkpoint.pt")
    parser.add_argument("--out", type=Path, default=dataset.OUT)
    parser.add_argument("--commit", action="store_true", help="put the Q8_0 file beside this script")
    args = parser.parse_args()
    saved = torch.load(args.checkpoint, weights_only=False)
    for name, (wanted, file_type) in FORMATS.items():
        path = args.out / f"home-mini-{name}.gguf"
        write(path, saved["model"], wanted, file_type)
        print(f"{path}: step {saved['step']} of {saved['steps']}, {path.stat().st_size} bytes")
    if args.commit:
        shutil.copyfile(args.out / "home-mini-q8_0.gguf", dataset.HERE / "home-mini.gguf")


if __name__ == "__main__":
    main()
