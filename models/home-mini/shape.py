"""The shape of home-mini: Gemma 4's text architecture in small."""

from transformers import Gemma4TextConfig

SLIDING, FULL = "sliding_attention", "full_attention"
VOCAB = 2048
HIDDEN = 128
# Depth is what finding a name in the list, reading beside it what the thing is, and then choosing the tool takes.
LAYERS = [SLIDING, FULL] * 4
# The last two layers own no K and V: they read those of layers 4 and 5.
N_SHARED = 2
N_HEADS = 4
HEAD_DIM = 32
FULL_HEAD_DIM = 64
WINDOW = 64
# Twice as wide in the layers that share K and V.
FEED_FORWARD = 128
# A row of the per-layer table has 8 x 96 = 768 values, a multiple of the 256 that Q4_K wants.
PER_LAYER = 96
SOFT_CAP = 30.0
CONTEXT = 8192
ROTARY_FRACTION = 0.25


def config() -> Gemma4TextConfig:
    """About 3.1 million parameters, 1.57 million of them in the per-layer table."""
    return Gemma4TextConfig(
        vocab_size=VOCAB,
        vocab_size_per_layer_input=VOCAB,
        hidden_size=HIDDEN,
        hidden_size_per_layer_input=PER_LAYER,
        intermediate_size=FEED_FORWARD,
        use_double_wide_mlp=True,
        num_hidden_layers=len(LAYERS),
        layer_types=LAYERS,
        num_kv_shared_layers=N_SHARED,
        num_attention_heads=N_HEADS,
        num_key_value_heads=1,
        head_dim=HEAD_DIM,
        global_head_dim=FULL_HEAD_DIM,
        sliding_window=WINDOW,
        final_logit_softcapping=SOFT_CAP,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        attention_k_eq_v=False,
        enable_moe_block=False,
        rms_norm_eps=1e-6,
        rope_parameters={
            SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
            FULL: {"rope_type": "proportional", "rope_theta": 1_000_000.0, "partial_rotary_factor": ROTARY_FRACTION},
        },
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        attn_implementation="sdpa",
    )
