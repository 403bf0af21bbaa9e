"""The model: a standard Transformer, in the size you chose.

At every position in the text, the model gives each token of the vocabulary a
score (a *logit*) for being the next one. It is built of layers with two parts
each: *attention* fetches what is useful from earlier positions, and a small
network works on what was fetched. It is the Qwen3 design of Hugging Face's
Transformers library, so any tool that loads a Qwen3 model can load yours.
inside.py, a later file, has it opened up.

The trap: a new model knows nothing, so it should give all V tokens about the
same probability, and its loss should start near ln V. Much higher: the weights
were set up wrongly. Much lower: the model can somehow see the answers.
"""

import torch
from transformers import AutoModelForCausalLM, Qwen3Config
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

# The model only looks back, so it needs no mask; without one PyTorch 2.13 picks its fastest
# attention when compiled too. PyTorch 2.14 is said to do so by itself: try without these lines.
AttentionInterface.register("causal", sdpa_attention_forward)
AttentionMaskInterface.register("causal", lambda *_, **__: None)

SIZES = {  # name: (layers, width); about 12 · layers · width² parameters, plus the vocabulary's
    "1m": (4, 128),
    "5m": (6, 256),
    "25m": (8, 512),
    "85m": (12, 768),
    "300m": (24, 1024),
    "1b": (20, 2048),
}


def new_config(size, tokenizer, context):
    """Return the configuration of a new model; what is not named here is Qwen3's default."""
    layers, width = SIZES[size]
    heads = max(4, width // 64)
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=round(width * 8 / 3 / 32) * 32,  # width of the small network
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,  # one table reads tokens and scores them: fewer weights
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def build(settings, tokenizer):
    """Return a new model with random weights, or the trained one that settings.base names."""
    if settings.base:
        safe = {"use_safetensors": True, "trust_remote_code": False}  # runs no foreign code
        model = AutoModelForCausalLM.from_pretrained(settings.base, dtype=torch.float32, **safe)
        model.generation_config.eos_token_id = tokenizer.eos_token_id  # it ends each document here
        return model
    config = new_config(settings.size, tokenizer, settings.context)
    return AutoModelForCausalLM.from_config(config, attn_implementation="causal")


def save_model(accelerator, model, tokenizer, folder):
    """Write a trained model as a plain Transformers folder; all processes call it."""
    weights = accelerator.get_state_dict(model)  # FSDP: put together from all processes
    if accelerator.is_main_process:
        model.save_pretrained(folder, state_dict=weights)
        tokenizer.save_pretrained(folder)
        print(f"The model is in {folder}.")
    accelerator.wait_for_everyone()  # if one process ended early, the others would crash
