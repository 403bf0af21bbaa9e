"""One LM for two text sources (chat logs and weather bulletins), one pass over the data."""
import random

import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM, get_cosine_schedule_with_warmup


def chat(rng):
    names = ["ana", "bob", "cem", "dia"]
    a, b = rng.sample(names, 2)
    t = rng.choice(["lunch", "tea", "chess", "a walk"])
    return f"{a}: shall we have {t}? {b}: yes, {t} it is, {a}."


def weather(rng):
    c = rng.choice(["rain", "sun", "fog", "snow"])
    d = rng.randint(-9, 30)
    return f"outlook {c}; high {d} low {d - 6}; wind {rng.choice('NSEW')}{rng.choice('NSEW')}"


def main():
    torch.manual_seed(0)
    rng = random.Random(0)
    alphabet = "abcdefghijklmnopqrstuvwxyzNSEW0123456789 :;?.,-"
    stoi = {c: i + 1 for i, c in enumerate(alphabet)}

    def to_ids(row):
        ids = [stoi[c] for c in row["text"]][:56]
        return {"input_ids": ids + [0] * (56 - len(ids)), "labels": ids + [-100] * (56 - len(ids)),
                "attention_mask": [1] * len(ids) + [0] * (56 - len(ids))}

    def build(fn, n):
        return Dataset.from_dict({"text": [fn(rng) for _ in range(n)]})

    corpus = concatenate_datasets([build(chat, 1800), build(weather, 1800)])
    corpus.shuffle(seed=0)
    corpus = corpus.map(to_ids, remove_columns=["text"]).with_format("torch")
    tests = {k: build(f, 150).map(to_ids, remove_columns=["text"]).with_format("torch")
             for k, f in (("chat", chat), ("weather", weather))}

    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(alphabet) + 1, hidden_size=64, intermediate_size=128,
                                         num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
                                         max_position_embeddings=64, pad_token_id=0, bos_token_id=None, eos_token_id=None))
    loader = DataLoader(corpus, batch_size=24)
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    sched = get_cosine_schedule_with_warmup(opt, 10, len(loader))
    model.train()
    for i, batch in enumerate(loader):
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        opt.zero_grad()
        if i % 30 == 0:
            print(f"step {i}/{len(loader)} loss {loss.item():.3f}")

    model.eval()
    losses = {}
    for name, ds in tests.items():
        with torch.no_grad():
            losses[name] = model(**ds[:]).loss.item()
    print("test loss " + " ".join(f"{k} {v:.3f}" for k, v in losses.items()) + f" mean {sum(losses.values()) / 2:.3f}")


if __name__ == "__main__":
    main()
