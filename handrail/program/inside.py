"""The model, opened: from tokens to logits in plain PyTorch, with the weights that you trained.

model.py only names an architecture; a library does the work. Here is all of that work, in about
fifty lines. Nothing is trained or saved here: print any line, change it, and see what happens.

In go token ids (B, T): B rows of T tokens. Out come logits (B, T, V): for each position, one
number per token of the vocabulary, the same numbers that Transformers computes. In between, each
position is a list of C numbers. Every layer adds to that list twice: *attention* adds what it
fetched from earlier positions, then a small network adds what it makes of the result. At the end
the list is compared with each token's row in the output table: the better the match, the larger
the logit.

The trap: attention by itself sees the future and knows no order. One line, the mask, hides the
future; one function, `rotate`, brings in the order. Remove either and everything still runs; it
is only wrong. Without the mask, each position can read the very token that it should predict.
"""

import json

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoTokenizer

from checkpoint import run
from settings import read, refuse, require, start

LAYER, HEAD = 0, 0  # the attention head that is shown; each looks for something else
WIDE = 11  # tokens in its table: as many as fit into 80 columns


def load(folder, device):
    """Return the settings of the model in `folder` and its weights, as {name: tensor}."""
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] != "qwen3":
        refuse(f"{folder} holds a {config['model_type']} model; inside.py opens Qwen3 models only.")
    return config, load_file(folder / "model.safetensors", device=str(device))


def norm(x, weight, config):
    """Return x (..., C) scaled so that the mean of its squares is 1, then times `weight` (C,).

    Layers only add, so numbers grow from layer to layer; this keeps them in one range.
    RMSNorm: Zhang & Sennrich 2019, section 3.
    """
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config["rms_norm_eps"]))


def rotate(x, config):
    """Return x (B, H, T, D) with each pair of its numbers turned, like the hand of a clock.

    The later the position, the further. So how well a query and a key match depends on how far
    apart they are. The first pair turns by 1 radian per position, the last ones hardly at all.
    RoPE: Su et al. 2021, section 3.2.2.
    """
    T, D = x.shape[-2:]
    base = config.get("rope_parameters", config)["rope_theta"]
    speeds = 1 / base ** (torch.arange(0, D, 2, device=x.device) / D)  # (D/2,)
    angles = torch.arange(T, device=x.device)[:, None] * speeds  # (T, D/2)
    first, second = x.chunk(2, dim=-1)  # a pair is one number of each half
    turned = first * angles.cos() - second * angles.sin()
    return torch.cat([turned, second * angles.cos() + first * angles.sin()], dim=-1)


def attention(x, layer, config):
    """Return what each position of x (B, T, C) fetches, and how much from where (B, H, T, T).

    A *query* is what a position looks for, a *key* what it has to offer, a *value* what it then
    gives. H heads do this side by side. Scaled dot-product attention: Vaswani et al. 2017, section
    3.2. Norms on queries and keys: Henry et al. 2020, section 3. Heads that share keys and values:
    Ainslie et al. 2023.
    """

    def heads(name):
        """Return x times one weight matrix, cut into H heads of D numbers: (B, H, T, D)."""
        product = F.linear(x, layer[f"self_attn.{name}.weight"])  # (B, T, H·D)
        return product.unflatten(-1, (-1, config["head_dim"])).transpose(1, 2)

    queries = rotate(norm(heads("q_proj"), layer["self_attn.q_norm.weight"], config), config)
    keys = rotate(norm(heads("k_proj"), layer["self_attn.k_norm.weight"], config), config)
    shared = queries.size(1) // keys.size(1)  # this many heads share keys and values, often 1
    keys = keys.repeat_interleave(shared, dim=1)  # (B, H, T, D)
    values = heads("v_proj").repeat_interleave(shared, dim=1)

    scores = queries @ keys.transpose(-1, -2) * config["head_dim"] ** -0.5  # (B, H, T, T)
    mask = torch.full_like(scores, -torch.inf).triu(1)  # what lies ahead gets a share of 0
    shares = (scores + mask).softmax(-1)  # (B, H, T, T), each row adds up to 1
    fetched = (shares @ values).transpose(1, 2).flatten(2)  # (B, T, H·D)
    return F.linear(fetched, layer["self_attn.o_proj.weight"]), shares


def feed_forward(x, layer):
    """Return what the small network makes of each position of x (B, T, C), each by itself.

    One matrix proposes more numbers than came in, another decides how much of each passes, a
    third makes C numbers of them again. SwiGLU: Shazeer 2020, section 2.
    """
    proposed = F.linear(x, layer["mlp.up_proj.weight"])  # (B, T, M), M being larger than C
    passes = F.silu(F.linear(x, layer["mlp.gate_proj.weight"]))  # (B, T, M)
    return F.linear(passes * proposed, layer["mlp.down_proj.weight"])


def forward(folder, ids):
    """Return the logits (B, T, V) for ids (B, T), and the attention (B, H, T, T) of each layer."""
    config, weights = load(folder, ids.device)
    embedding = weights["model.embed_tokens.weight"]  # (V, C)
    x = embedding[ids]  # (B, T, C)
    attentions = []
    for number in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{number}."
        layer = {name.removeprefix(prefix): weights[name] for name in weights if prefix in name}
        fetched, shares = attention(norm(x, layer["input_layernorm.weight"], config), layer, config)
        x = x + fetched
        x = x + feed_forward(norm(x, layer["post_attention_layernorm.weight"], config), layer)
        attentions.append(shares)
    x = norm(x, weights["model.norm.weight"], config)
    output = weights.get("lm_head.weight", embedding)  # tied: one table reads and writes tokens
    return F.linear(x, output), attentions


def logits(folder, ids):
    """Return the logits (B, T, V) of the model in `folder` for ids (B, T)."""
    return forward(folder, ids)[0]


def show(folder, prompt, device="cpu"):
    """Return, as lines, the five most likely tokens after `prompt`, and who looks at whom in it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.eos_token + prompt  # as every text begins in training
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"].to(device)
    found, attentions = forward(folder, ids)  # (1, T, V), and (1, H, T, T) per layer
    top = found[0, -1].softmax(-1).topk(5)
    pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    lines = [f"{probability:6.1%}  {tokenizer.decode(token)!r}" for probability, token in pairs]
    names = [f"{tokenizer.decode(token).strip()[:5]:>6}" for token in ids[0, -WIDE:]]
    lines += ["", f"Layer {LAYER}, head {HEAD}, in percent:", " " * 6 + "".join(names)]
    shares = attentions[LAYER][0, HEAD, -WIDE:, -WIDE:].tolist()
    for name, row in zip(names, shares, strict=True):
        lines.append(name + "".join(f"{100 * share:6.0f}" if share else " " * 6 for share in row))
    return [f"What comes after {prompt!r}, and how much a row looks at each column:", "", *lines]


def main():
    settings = read("Show what the trained model computes: the next token, and who looks at whom.")
    folder = require(settings.out / "model", "python pretrain.py")
    print("\n".join(show(folder, settings.prompt, start(settings).device)))


if __name__ == "__main__":
    run(main, kept="")
