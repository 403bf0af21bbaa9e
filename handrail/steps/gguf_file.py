"""The model as GGUF files and an Ollama Modelfile: what llama.cpp, Ollama and LM Studio run.

llama.cpp has a converter for a hundred architectures, but it refuses a tokenizer that is not in its
list, and that of a new model never is. This one knows the two architectures that handrail makes or
starts from, and what llama.cpp has to do for their tokenizers. Names and formats are gguf's own.
"""

import json
import re
import tomllib
from pathlib import Path

import gguf
from transformers import AutoModelForCausalLM
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

NUMBERS = Path(__file__).with_name("gguf.toml")
SAME = 40  # tokens that a GGUF and its model must write alike
FORMATS = {"F32": gguf.LlamaFileType.ALL_F32, "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
WAYS = {  # to cut a text: llama.cpp's name, and what the Tokenizers library does in turn
    "gpt-2": [("ByteLevel", True)],
    "smollm": [("Digits", True), ("ByteLevel", True)],
    "qwen2": [("Split", {"Regex": PRETOKENIZE_REGEX}), ("ByteLevel", False)],
}
DESIGNS = {"qwen3": gguf.MODEL_ARCH.QWEN3, "llama": gguf.MODEL_ARCH.LLAMA}


def pre_type(tokenizer):
    """Return llama.cpp's name for how a text is cut before its pieces are looked up, or None."""
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    cuts = whole["pre_tokenizer"] or {}
    cuts = cuts.get("pretokenizers", [cuts])
    changes = (whole["normalizer"] or {}).get("type", "NFC") != "NFC"  # llama.cpp changes nothing
    other = whole["model"]["type"] != "BPE" or whole["model"].get("byte_fallback")
    if changes or other or any(c.get("add_prefix_space") for c in cuts):
        return None
    found = [c.get("pattern", c.get("use_regex", c.get("individual_digits"))) for c in cuts]
    found = list(zip([cut.get("type") for cut in cuts], found, strict=True))
    return next((name for name, way in WAYS.items() if way == found), None)


def refusal(model, tokenizer):
    """Return why there can be no GGUF of this model, as a heading of share.md, or None."""
    config = model.config
    other = "GGUF of another architecture"
    if config.model_type not in DESIGNS or config.rope_parameters["rope_type"] != "default":
        return other
    if config.hidden_act != "silu" or getattr(config, "use_sliding_window", False):
        return other
    fits = len(tokenizer) <= config.vocab_size
    return None if fits and pre_type(tokenizer) else "GGUF with another tokenizer"


def describe(writer, model, tokenizer):
    """Write what llama.cpp has to know to build the model and to begin and end a text."""
    for name, ours in tomllib.loads(NUMBERS.read_text()).items():
        getattr(writer, f"add_{name}")(getattr(model.config, ours))
    writer.add_rope_freq_base(model.config.rope_parameters["rope_theta"])
    special = gguf.SpecialVocab(model.name_or_path, load_merges=True)
    special.chat_template = tokenizer.chat_template
    if tokenizer.chat_template:
        special.special_token_ids["eot"] = end_of(model, tokenizer)
    else:  # a document begins after END: see chat.py
        special.special_token_ids["bos"] = tokenizer.eos_token_id
    special.add_special_token = {"bos": not tokenizer.chat_template}  # a template has its own
    special.add_to_gguf(writer, quiet=True)


def add_tokens(writer, tokenizer, rows):
    """Write the tokens, one for each row of the embedding, and how a text is cut into them."""
    kinds, added = [gguf.TokenType.UNUSED] * rows, tokenizer.added_tokens_decoder
    tokens = [f"[unused {number}]" for number in range(rows)]
    for token, number in tokenizer.get_vocab().items():
        tokens[number], kinds[number] = token, gguf.TokenType.NORMAL
        if number in added:
            special = added[number].special
            kinds[number] = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")  # so GGUF calls every byte-level BPE
    writer.add_tokenizer_pre(pre_type(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)


def turned(name, array, config):
    """Return a weight in llama.cpp's order: there, Llama's rotated pairs lie side by side."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    number = next((heads[part] for part in name.split(".") if part in heads), None)
    if config.model_type != "llama" or number is None:
        return array
    halves = array.reshape(number, 2, -1, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)


def end_of(model, tokenizer):
    """Return the token that ends an answer or a text."""
    end = model.generation_config.eos_token_id
    return end[0] if isinstance(end, list) else end or tokenizer.eos_token_id


def add_weights(writer, model, kind):
    """Write the weights, matrices in numbers of that kind where their rows allow it."""
    config, plain = model.config, gguf.GGMLQuantizationType.F32
    names = gguf.get_tensor_name_map(DESIGNS[config.model_type], config.num_hidden_layers)
    for weight, tensor in model.state_dict().items():
        if weight == "lm_head.weight" and config.tie_word_embeddings:
            continue  # llama.cpp uses the embedding twice where there is no output.weight
        array = turned(weight, tensor.float().numpy(), config)
        uneven = array.ndim == 1 or array.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]
        used = plain if uneven else kind
        there = names.get_name(weight, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(there, gguf.quants.quantize(array, used), raw_dtype=used)


def files_in(folder):
    """Return {format: the file for it}; others there, in a third format say, are their owner's."""
    return {kind: folder / f"model-{kind.lower()}.gguf" for kind in FORMATS}


def write(model, tokenizer, folder, name):
    """Write the model's GGUF files into a folder; return them."""
    files = files_in(folder)
    for kind, file in files.items():
        writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[DESIGNS[model.config.model_type]])
        writer.add_name(name)
        writer.add_file_type(FORMATS[kind])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        describe(writer, model, tokenizer)
        add_tokens(writer, tokenizer, model.config.vocab_size)
        add_weights(writer, model, gguf.GGMLQuantizationType[kind])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return list(files.values())


def turns(tokenizer):
    """Return what the chat template puts around messages, or None if that varies.

    That is: before a first question, before and after a system's text, after a question, after an
    answer.
    """

    def shown(*roles):
        talk = [{"role": role, "content": f"@{role}@"} for role in roles]
        text = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        return re.split("@[a-z]+@", text)

    try:
        *system, asked, answered, last = shown("system", "user", "assistant", "user")
        start, *rest = shown("user", "assistant", "user")
    except Exception:  # whatever a template raises, such as that it knows no system
        return None
    same = rest == [asked, answered, last] and asked == last and len(system) == 2
    return [start, *system, asked, answered] if same else None


def modelfile(model, tokenizer):
    """Return what Modelfile.jinja names. An answer stops at its end, and at what may follow it."""
    chats, end = bool(tokenizer.chat_template), end_of(model, tokenizer)
    around = turns(tokenizer) if chats else None
    after = tokenizer(around[-1] if around else "", add_special_tokens=False)["input_ids"]
    marks = dict.fromkeys([end, *(mark for mark in after if mark in tokenizer.all_special_ids)])
    most = min(model.config.max_position_embeddings // 2, 256)  # as in chat.py
    found = {"chats": chats, "turns": around, "most": most}
    return found | {"stops": [tokenizer.decode([mark]) for mark in marks]}


def compared(model, tokenizer, folder, prompt):
    """Return the tokens that the model and its GGUF write, each taking the likeliest every time."""
    text = tokenizer.eos_token + prompt
    if tokenizer.chat_template:
        asked = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    asked = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    # Transformers does not read head_dim from a GGUF of Qwen3, so it gets the config as well
    how = {"gguf_file": "model-f32.gguf", "config": model.config, "dtype": model.dtype}
    again = AutoModelForCausalLM.from_pretrained(folder, **how)
    again.generation_config = model.generation_config
    greedy = {"min_new_tokens": SAME, "max_new_tokens": SAME, "do_sample": False}
    both = (some.generate(**asked, **greedy)[0] for some in (model, again))
    return [tokens[asked["input_ids"].size(1) :].tolist() for tokens in both]
