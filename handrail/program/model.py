"""The model: a standard Transformer, in the size you chose.

For every position it gives one number (a *logit*) per token of the vocabulary:
how likely that token is to come next. Inside are layers of two parts each:
*attention* fetches what is useful from earlier positions, and a small network
works on what was fetched. It is the Qwen3 architecture as Transformers has it,
so every tool that reads such models will read yours.

The trap: a model that has learned nothing should give every one of V tokens
the same chance, so its loss starts near ln V. A start far above is a fault in
the weights; a start far below means that it can see the answer.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM, Qwen3Config
from transformers.integrations.sdpa_attention import sdpa_attention_forward

# Looking back only needs no mask tensor; without one PyTorch takes its fastest kernel, compiled as well.
AttentionInterface.register("causal", sdpa_attention_forward)
AttentionMaskInterface.register("causal", lambda *_, **__: None)

SIZES = {  # name: (layers, width); parameters without the vocabulary are about 12 · layers · width²
    "1m": (4, 128),
    "5m": (6, 256),
    "25m": (8, 512),
    "85m": (12, 768),
    "300m": (24, 1024),
    "1b": (20, 2048),
}


def new_config(size, tokenizer, context):
    """Return the configuration of a new model; everything not named here is Qwen3's default."""
    layers, width = SIZES[size]
    heads = max(4, width // 64)
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=round(width * 8 / 3 / 32) * 32,  # three matrices here cost what two of 4 · width would
        num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads,
        head_dim=width // heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,  # one table both reads tokens and writes them: fewer weights to learn
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def build(settings, tokenizer):
    """Return a new model with random weights, or the pretrained one that settings.base names, in 32-bit weights."""
    if settings.base:
        return AutoModelForCausalLM.from_pretrained(settings.base, dtype=torch.float32, use_safetensors=True, trust_remote_code=False)
    config = new_config(settings.size, tokenizer, settings.context)
    return AutoModelForCausalLM.from_config(config, attn_implementation="causal")
