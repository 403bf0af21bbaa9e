"""Runs in which nothing is wrong, though some look odd: the doctor has to be quiet.  python bench/corpus/healthy/healthy.py NAME"""

import copy
import os
import sys
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "pairs"))
from common import make_tokenizer, pretrained, qa, stories, tiny_model  # noqa: E402


def loop(model, loss_of, updates=40, lr=3e-3, parameters=None, optimizer=None, schedule=None, after=lambda step: None):
    """A plain loop."""
    optimizer = optimizer or torch.optim.AdamW(parameters or model.parameters(), lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule) if schedule else None
    model.train()
    for step in range(updates):
        loss = loss_of(step)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if scheduler:
            scheduler.step()
        after(step)
    print("loss", loss.item())


def texts(model, tokenizer=None, batch=12, **how):
    """Return loss_of(step) on village stories."""
    tokenizer = tokenizer or make_tokenizer()
    told = stories(700, seed=3)

    def loss_of(step):
        rows = tokenizer([text + tokenizer.eos_token for text in told[step * batch % 680 : step * batch % 680 + batch]], return_tensors="pt", padding=True)
        return model(**rows, labels=rows["input_ids"].masked_fill(rows["attention_mask"] == 0, -100), **how).loss

    return loss_of


def images(classes=10):
    """Return (a small convolutional network, batches of pictures with their classes)."""
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16 * 16, classes))
    means = torch.randn(classes, 1, 14, 14)

    def batch():
        labels = torch.randint(0, classes, (32,))
        return means[labels] + 0.5 * torch.randn(32, 1, 14, 14), labels

    return model, batch


def image_classifier():
    model, batch = images()
    loop(model, lambda step: F.cross_entropy(*(lambda x, y: (model(x), y))(*batch())))


def image_classifier_evaluated():
    model, batch = images()
    exam = [batch() for _ in range(4)]

    def after(step):
        if step % 10 == 9:
            model.eval()
            with torch.no_grad():
                print("val", sum(F.cross_entropy(model(x), y) for x, y in exam).item() / 4)
            model.train()

    loop(model, lambda step: F.cross_entropy(*(lambda x, y: (model(x), y))(*batch())), after=after)


def frozen_backbone():
    model, batch = images()
    for p in model[:7].parameters():
        p.requires_grad = False
    loop(model, lambda step: F.cross_entropy(*(lambda x, y: (model(x), y))(*batch())), parameters=model[8].parameters())


def label_smoothing():
    model, batch = images()
    loop(model, lambda step: F.cross_entropy(*(lambda x, y: (model(x), y))(*batch()), label_smoothing=0.1))


def regression():
    model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 1))

    def loss_of(step):
        x = torch.randn(64, 8)
        return F.mse_loss(model(x), x.sum(1, keepdim=True).sin())

    loop(model, loss_of)


def two_optimizers():
    """A small GAN: two models, two optimizers, gradients that pass through one into the other."""
    maker, judge = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2)), nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))
    a, b = torch.optim.Adam(maker.parameters(), 1e-3), torch.optim.Adam(judge.parameters(), 1e-3)
    for _ in range(40):
        real, fake = torch.randn(64, 2) + 2, maker(torch.randn(64, 4))
        loss = F.softplus(-judge(real)).mean() + F.softplus(judge(fake.detach())).mean()
        b.zero_grad()
        loss.backward()
        b.step()
        loss = F.softplus(-judge(fake)).mean()
        a.zero_grad()
        loss.backward()
        a.step()
    print("loss", loss.item())


def lbfgs():
    """An optimizer that calls a closure several times a step."""
    model, x = nn.Linear(8, 1), torch.randn(256, 8)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), x.sum(1, keepdim=True))
        loss.backward()
        return loss

    for _ in range(12):
        loss = optimizer.step(closure)
    print("loss", loss.item())


def dropout():
    tokenizer = make_tokenizer()
    model = tiny_model(tokenizer, attention_dropout=0.1)
    loop(model, texts(model, tokenizer))


def warm_up_from_zero():
    tokenizer = make_tokenizer()
    model = tiny_model(tokenizer)
    loop(model, texts(model, tokenizer), schedule=lambda step: min(1.0, step / 20))


def tied_weights():
    tokenizer = make_tokenizer()
    model = tiny_model(tokenizer, tie_word_embeddings=True)
    loop(model, texts(model, tokenizer))


def bf16():
    tokenizer = make_tokenizer()
    model = tiny_model(tokenizer)
    inner = texts(model, tokenizer)

    def loss_of(step):
        with torch.autocast("cpu", torch.bfloat16):
            return inner(step)

    loop(model, loss_of)


def gradient_checkpointing():
    tokenizer = make_tokenizer()
    model = tiny_model(tokenizer)
    model.gradient_checkpointing_enable()
    loop(model, texts(model, tokenizer))


def compiled():
    tokenizer = make_tokenizer()
    model = tiny_model(tokenizer)
    run, ids = torch.compile(model), torch.tensor([row[:40] for row in tokenizer(stories(900, seed=8))["input_ids"] if len(row) >= 40])

    def loss_of(step):
        batch = ids[step * 12 % 480 : step * 12 % 480 + 12]
        return run(input_ids=batch, labels=batch).loss

    loop(model, loss_of)


def letters():
    """Twenty-some letters for a vocabulary, contiguous text, evaluated on train and on val as nanoGPT does."""
    text = "\n".join(stories(900))
    words = sorted(set(text))
    data = torch.tensor([words.index(letter) for letter in text])
    train, val = data[:-4000], data[-4000:]
    tokenizer_free = tiny_model(make_tokenizer(), vocab_size=len(words), eos_token_id=None, pad_token_id=None)

    def batch(part):
        starts = torch.randint(len(part) - 65, (12,))
        return torch.stack([part[i : i + 64] for i in starts]), torch.stack([part[i + 1 : i + 65] for i in starts])

    def loss_of(x, y):
        return F.cross_entropy(tokenizer_free(input_ids=x).logits.flatten(0, 1), y.flatten())

    def after(step):
        if step % 10 == 9:
            tokenizer_free.eval()
            with torch.no_grad():
                for part in (train, val):
                    print("loss", sum(loss_of(*batch(part)) for _ in range(4)).item() / 4)
            tokenizer_free.train()

    loop(tokenizer_free, lambda step: loss_of(*batch(train)), after=after)


def masked_language_model():
    """BERT reads both ways on purpose, and its targets are not the next tokens."""
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = make_tokenizer()
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128))
    told = stories(700, seed=3)

    def loss_of(step):
        rows = tokenizer(told[step * 12 : step * 12 + 12], return_tensors="pt", padding=True)
        hidden = (torch.rand(rows["input_ids"].shape) < 0.15) & (rows["attention_mask"] == 1)
        ids = rows["input_ids"].masked_fill(hidden, tokenizer.pad_token_id)
        return model(input_ids=ids, attention_mask=rows["attention_mask"], labels=rows["input_ids"].masked_fill(~hidden, -100)).loss

    loop(model, loss_of)


def two_tower():
    """A contrastive model: two encoders, no tokens, a loss over a batch."""
    model = nn.ModuleList([nn.Linear(16, 32), nn.Linear(16, 32)])

    def loss_of(step):
        x = torch.randn(32, 16)
        a, b = F.normalize(model[0](x), dim=1), F.normalize(model[1](x + 0.1 * torch.randn_like(x)), dim=1)
        return F.cross_entropy(a @ b.T / 0.1, torch.arange(32))

    loop(model, loss_of)


def exponential_average():
    """A copy of the model follows it, and is evaluated in its place."""
    tokenizer = make_tokenizer()
    model = tiny_model(tokenizer)
    shadow, inner = copy.deepcopy(model), texts(model, tokenizer)
    exam = tokenizer([text + tokenizer.eos_token for text in stories(40, seed=99)], return_tensors="pt", padding=True)

    def after(step):
        with torch.no_grad():
            for a, b in zip(shadow.parameters(), model.parameters()):
                a.lerp_(b, 0.1)
            if step % 10 == 9:
                shadow.eval()
                print("val", shadow(**exam, labels=exam["input_ids"].masked_fill(exam["attention_mask"] == 0, -100)).loss.item())

    loop(model, inner, after=after)


def small_rate_on_a_trained_model():
    tokenizer = make_tokenizer()
    model = pretrained(tokenizer)
    loop(model, texts(model, tokenizer), lr=3e-5)


def saved_twice():
    """Saved in mid-run and at the end, with its tokenizer."""
    tokenizer = make_tokenizer()
    model, out = tiny_model(tokenizer), os.environ.get("OUT", "/tmp/handrail-healthy")

    def after(step):
        if step in (19, 39):
            model.save_pretrained(f"{out}/at-{step}")
            tokenizer.save_pretrained(f"{out}/at-{step}")

    loop(model, texts(model, tokenizer), after=after)


def conversations(rows):
    """Train on answers in conversations of several turns, `rows` of them at a time."""
    tokenizer = make_tokenizer()
    model, chats = pretrained(tokenizer), qa(400, seed=4)
    talks = [a["messages"] + [b["messages"][0] | {"content": b["messages"][0]["content"].split("\n")[-1]}, b["messages"][1]] for a, b in zip(chats[::2], chats[1::2])]

    def loss_of(step):
        coded = tokenizer.apply_chat_template(talks[step * rows % 180 : step * rows % 180 + rows], return_dict=True, return_assistant_tokens_mask=True, padding=True, return_tensors="pt")
        labels = coded["input_ids"].masked_fill(torch.as_tensor(coded.pop("assistant_masks")) == 0, -100)
        return model(**coded, labels=labels).loss

    loop(model, loss_of, lr=1e-3)


def several_turns():
    conversations(4)


def several_turns_one_at_a_time():
    conversations(1)


def overfitted_batch():
    """One batch again and again: the test that a loop can memorise, forty updates of it."""
    tokenizer = make_tokenizer()
    model = tiny_model(tokenizer)
    one = texts(model, tokenizer, batch=4)
    loop(model, lambda step: one(0), updates=15)


RUNS = [image_classifier, image_classifier_evaluated, frozen_backbone, label_smoothing, regression, two_optimizers, lbfgs, dropout, warm_up_from_zero, tied_weights, bf16,
        gradient_checkpointing, compiled, letters, masked_language_model, two_tower, several_turns, several_turns_one_at_a_time, exponential_average, small_rate_on_a_trained_model, saved_twice, overfitted_batch]  # fmt: skip

if __name__ == "__main__":
    torch.manual_seed(0)
    dict((run.__name__, run) for run in RUNS)[sys.argv[1]]()
