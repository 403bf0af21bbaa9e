"""What the exam scripts share and what is boring: village texts, a tokenizer, a tiny model, and one that already knows the village."""
import itertools
import os
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(1, os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))))
CACHE = os.path.join(tempfile.gettempdir(), "handrail-exam")
TEMPLATE = ("{% for message in messages %}{% if message['role'] == 'assistant' %}<|im_start|>assistant\n"
            "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
            "{% else %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def village(n, seed=0):
    from handrail.data.village import stories as endless
    return list(itertools.islice(endless(seed), n))


def stories(n, seed=0):
    """n story texts."""
    return [row["text"] for row in village(n, seed)]


def qa(n, seed=0, form="whole"):
    """n rows {"messages": [user: story and question, assistant: answer]}; form is whole, short or answer."""
    return [{"messages": [{"role": "user", "content": row["text"] + "\n" + row["question"]},
                          {"role": "assistant", "content": row[form]}]} for row in village(n, seed)]


def make_tokenizer(vocab_size=512, bos=False):
    """A byte-level BPE trained on 400 stories; with bos=True it puts <s> in front of every text, as Llama's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"] + ["<s>"] * bos
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    texts = [text for row in village(400, 7) for text in (row["text"], row["question"], row["whole"], "user\n", "assistant\n")]
    tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False,
                                                       initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if bos:
        tok.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B",
                                                           special_tokens=[("<s>", tok.token_to_id("<s>"))])
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, pad_token="<|pad|>", eos_token="<|im_end|>",
                                   **({"bos_token": "<s>"} if bos else {}))
    fast.chat_template = ("{{ bos_token }}" if bos else "") + TEMPLATE
    return fast


def tiny_model(tokenizer, **config):
    """A Llama with 2 layers and fresh weights (set the seed first)."""
    from transformers import LlamaConfig, LlamaForCausalLM
    settings = dict(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
                    max_position_embeddings=1024, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
                    bos_token_id=tokenizer.bos_token_id)
    return LlamaForCausalLM(LlamaConfig(**settings | config))


def pretrained_folder():
    """Where the model with some knowledge lies; trained at the first call, in a process of its own."""
    folder = os.path.join(CACHE, "base-1")
    if not os.path.isdir(folder):
        subprocess.run([sys.executable, os.path.abspath(__file__), folder], check=True)
    return folder


def pretrained(tokenizer):
    """A Llama that has seen stories and questions for a short while; same tokenizer as make_tokenizer()."""
    from transformers import LlamaForCausalLM
    return LlamaForCausalLM.from_pretrained(pretrained_folder())


def pretrain(folder, updates=120):
    import torch
    torch.manual_seed(0)
    tok = make_tokenizer()
    model = tiny_model(tok)
    texts = [text + tok.eos_token for text in stories(updates * 8, 500)]
    chats = [tok.apply_chat_template(row["messages"], tokenize=False) for row in qa(updates * 8, 501)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=updates, pct_start=0.1)
    for i in range(updates):
        batch = tok(texts[i * 8:i * 8 + 8] + chats[i * 8:i * 8 + 8], return_tensors="pt", padding=True)
        loss = model(**batch, labels=batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), schedule.step(), optimizer.zero_grad()
        if i % 20 == 0 or i == updates - 1:
            print("making the base model", i, round(loss.item(), 3), flush=True)
    part = f"{folder}.{os.getpid()}"
    model.save_pretrained(part)
    tok.save_pretrained(part)
    try:
        os.rename(part, folder)
    except OSError:
        shutil.rmtree(part)


if __name__ == "__main__":
    pretrain(sys.argv[1])
