"""From continuing text to answering: what is trained, the losses held against trusted ones, and the
steps by their commands.
"""

import json
import re
import shutil
import signal
import sys
import tomllib
from argparse import Namespace

import pytest
import torch
import warm
from conftest import HOUSE, decide, handrail, interrupted, made, once, script
from safetensors import SafetensorError
from test_screen import first_use, new_words
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from handrail.data import village
from handrail.project.project import Project
from handrail.steps import ANSWERS
from handrail.steps.card import card

sys.path.insert(0, str(HOUSE / "handrail" / "program"))
MARKS = (
    "<|im_start|> <|im_end|> <think> </think> <|begin_of_text|> <|start_header_id|> "
    "<|end_header_id|> <|eot_id|> <bos> <start_of_turn> <end_of_turn> <s> </s> [INST] [/INST] "
    "<|user|> <|assistant|> <|system|>"
).split()

# Templates in the forms of well-known models, rewritten here.
TEMPLATES = {
    "llama-3": (
        "{{ '<|begin_of_text|>' }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + "
        "'<|end_header_id|>\\n\\n' + m['content'] + '<|eot_id|>' }}{% endfor %}{% if "
        "add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% "
        "endif %}"
    ),
    "gemma": (
        "{{ '<bos>' }}{% set at = namespace(lead='') %}{% for m in messages %}{% if m['role'] == "
        "'system' %}{% set at.lead = m['content'] + '\\n\\n' %}{% else %}{{ '<start_of_turn>' + "
        "('model' if m['role'] == 'assistant' else 'user') + '\\n' + at.lead + m['content'] | "
        "trim + '<end_of_turn>\\n' }}{% set at.lead = '' %}{% endif %}{% endfor %}{% if "
        "add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    "mistral": (
        "{{ '<s>' }}{% set at = namespace(lead='') %}{% for m in messages %}{% if m['role'] == "
        "'system' %}{% set at.lead = m['content'] + '\\n\\n' %}{% elif m['role'] == 'user' %}{{ "
        "'[INST] ' + (at.lead if loop.last else '') + m['content'] + '[/INST]' }}{% else %}{{ ' "
        "' + m['content'] + '</s>' }}{% endif %}{% endfor %}"
    ),
    "qwen3": (
        "{% set at = namespace(last=-1) %}{% for m in messages %}{% if m['role'] == 'user' %}{% "
        "set at.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}{{ "
        "'<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' and loop.index0 > "
        "at.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{{ m['content'] + '<|im_end|>\\n"
        "' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif "
        "%}"
    ),
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '</s>\\n' }}{% "
        "endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
}
SINGLE = [("user", "Hi there"), ("assistant", "Hello!")]
MULTI = [*SINGLE, ("user", "Bye"), ("assistant", "See you")]
SYSTEM = [("system", "Be kind."), *SINGLE]

# Written by hand: the rows that should come of each, what is trained between « and ».
EXPECTED = {
    ("chatml", "single"): [
        "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n«Hello!<|im_end|>»"
    ],
    ("chatml", "multi"): [
        "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n«Hello!<|im_end|>»\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n«See you<|im_end|>»"
    ],
    ("chatml", "system"): [
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi there<|im_end|>\n"
        "<|im_start|>assistant\n«Hello!<|im_end|>»"
    ],
    ("llama-3", "single"): [
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi "
        "there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n«Hello!<|eot_id|>»"
    ],
    ("llama-3", "multi"): [
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi "
        "there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        "«Hello!<|eot_id|>»<|start_header_id|>user<|end_header_id|>\n\n"
        "Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n«See you<|eot_id|>»"
    ],
    ("llama-3", "system"): [
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe "
        "kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi "
        "there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n«Hello!<|eot_id|>»"
    ],
    ("gemma", "single"): [
        "<bos><start_of_turn>user\nHi there<end_of_turn>\n<start_of_turn>model\n"
        "«Hello!<end_of_turn>»"
    ],
    ("gemma", "multi"): [
        "<bos><start_of_turn>user\nHi there<end_of_turn>\n<start_of_turn>model\n"
        "«Hello!<end_of_turn>»\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
        "«See you<end_of_turn>»"
    ],
    ("gemma", "system"): [
        "<bos><start_of_turn>user\nBe kind.\n\nHi there<end_of_turn>\n<start_of_turn>model\n"
        "«Hello!<end_of_turn>»"
    ],
    ("mistral", "single"): ["<s>[INST] Hi there[/INST]« Hello!</s>»"],
    ("mistral", "multi"): ["<s>[INST] Hi there[/INST]« Hello!</s>»[INST] Bye[/INST]« See you</s>»"],
    ("mistral", "system"): [
        "<s>[INST] Be kind.\n\nHi there[/INST]« Hello!</s>»"
    ],  # the template itself would lose the system turn
    ("qwen3", "single"): [
        "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\n"
        "Hello!<|im_end|>»"
    ],
    ("qwen3", "multi"): [  # its template drops the thoughts of earlier turns: two rows
        "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\n"
        "Hello!<|im_end|>»",
        "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\nSee "
        "you<|im_end|>»",
    ],
    ("qwen3", "system"): [
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi there<|im_end|>\n"
        "<|im_start|>assistant\n«<think>\n\n</think>\n\nHello!<|im_end|>»"
    ],
    ("zephyr", "single"): ["<|user|>\nHi there</s>\n<|assistant|>\n«Hello!</s>»"],
    ("zephyr", "multi"): [
        "<|user|>\nHi there</s>\n<|assistant|>\n«Hello!</s>»\n<|user|>\nBye</s>\n<|assistant|>\n"
        "«See you</s>»"
    ],
    ("zephyr", "system"): [
        "<|system|>\nBe kind.</s>\n<|user|>\nHi there</s>\n<|assistant|>\n«Hello!</s>»"
    ],
}


def byte_tokenizer(template=None):
    """Return a tokenizer of single bytes and all the marks above, each one token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE({sign: i for i, sign in enumerate(alphabet)}, []))
    plain.pre_tokenizer, plain.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    plain.add_special_tokens([*MARKS, "<|endoftext|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        chat_template=template,
    )


def chat(turns):
    return [{"role": role, "content": content} for role, content in turns]


def tiny(vocabulary, **more):
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        **more,
    )
    return Qwen3ForCausalLM(config)


@pytest.mark.parametrize("name, case", EXPECTED)
def test_exactly_the_answers_are_trained(name, case):
    """Token for token, what is trained is what the model will have to say itself: each answer with
    its end mark, nothing else.
    """
    import messages

    tokenizer = byte_tokenizer(TEMPLATES.get(name, messages.CHATML))
    rows = messages.encode(
        tokenizer, chat({"single": SINGLE, "multi": MULTI, "system": SYSTEM}[case])
    )
    wanted = []
    for text in EXPECTED[name, case]:
        pieces = re.split("[«»]", text)  # every second one is trained
        coded = [
            (tokenizer(piece, add_special_tokens=False)["input_ids"], bool(i % 2))
            for i, piece in enumerate(pieces)
            if piece
        ]
        wanted.append(
            ([i for ids, _ in coded for i in ids], [said for ids, said in coded for _ in ids])
        )
    assert rows == wanted


def test_a_turn_that_is_marked_is_read_and_not_learned():
    """`"train": false` makes an answer context, and a thought is not written twice."""
    import messages

    def learned(template, turns):
        tokenizer = byte_tokenizer(template)
        return [
            tokenizer.decode([i for i, said in zip(ids, mask, strict=True) if said])
            for ids, mask in messages.encode(tokenizer, turns)
        ]

    turns = chat(MULTI)
    turns[1]["train"] = False
    assert learned(messages.CHATML, turns) == ["See you<|im_end|>"]
    thought = chat([("user", "Hi"), ("assistant", "<think>\nGreet.\n</think>\n\nHello!")])
    assert learned(TEMPLATES["qwen3"], thought) == ["<think>\nGreet.\n</think>\n\nHello!<|im_end|>"]


def some_rows(tokenizer, number=4):
    import messages

    said = [
        [("user", "Count to " + "1" * i), ("assistant", "one " * (2 * i + 1))]
        for i in range(1, number + 1)
    ]
    return [row for turns in said for row in messages.encode(tokenizer, chat(turns))]


def test_packed_rows_do_not_see_each_other():
    """Laid end to end, every row gets the logits that it gets alone: no example reads another one."""
    import messages
    import packing

    tokenizer = byte_tokenizer(messages.CHATML)
    model, rows = tiny(len(tokenizer)).eval(), some_rows(tokenizer)
    with torch.no_grad():
        together = packing.pack(rows)
        packed = model(
            together["inputs"], position_ids=together["positions"], use_cache=False
        ).logits[0]
        alone = torch.cat(
            [model(torch.tensor([ids[:-1]]), use_cache=False).logits[0] for ids, _ in rows]
        )
    assert (packed - alone).abs().max() < 1e-5


def test_packed_or_not_the_same_rows_are_learned():
    """A model that cannot keep packed rows apart gets each row as a part of its own: the same
    targets, in the same order, and nothing else.
    """
    import messages
    import packing

    rows = some_rows(byte_tokenizer(messages.CHATML), 6)
    chosen = {"context": 300, "batch": 4, "seed": 0}
    together, alone = (
        packing.message_batches(rows, Namespace(**chosen, packed=packed))
        for packed in (True, False)
    )
    for step in range(3):  # two epochs
        assert len(together(step)) < 4 and [len(part["values"]) for part in alone(step)] == [1] * 4
        for name in ("inputs", "targets", "positions"):
            packed, parts = (
                torch.cat([part[name][0] for part in batch(step)]) for batch in (together, alone)
            )
            assert torch.equal(packed, parts), name


@pytest.mark.parametrize("kind, leaks", [("Llama", False), ("Bloom", True), ("Mamba", True)])
def test_a_model_that_cannot_keep_packed_rows_apart_is_found_out(kind, leaks):
    """Some architectures read from one packed row into the next and say nothing: that is measured,
    and unpacked they learn from each row alone.
    """
    import transformers

    import finetune
    import messages
    import packing
    from handrail.steps.examples import SAME, leak

    tokenizer = byte_tokenizer(messages.CHATML)
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4
    )
    model, rows = transformers.AutoModelForCausalLM.from_config(config).eval(), some_rows(tokenizer)
    assert (leak(model, rows) > SAME) == leaks
    settings = Namespace(context=10_000, batch=len(rows), seed=0, packed=not leaks)
    parts = packing.message_batches(rows, settings)(0)
    found = torch.cat([finetune.token_losses(model, part) for part in parts])
    ordered = packing.turns(0, rows, settings)
    alone = [finetune.token_losses(model, packing.pack([row])) for row in ordered]
    assert len(parts) == (len(rows) if leaks else 1)
    assert (found - torch.cat(alone)).abs().max() < 1e-5


def test_weights_that_could_run_a_program_or_are_not_whole_are_refused(tmp_path):
    """A downloaded model must not run its maker's code here, by a pickle or by its own Python, and
    half a file is named: a sentence each.
    """
    import finetune
    from handrail.project.pretrained import base_parameters
    from handrail.project.project import Stop

    tiny(300).save_pretrained(tmp_path / "whole")
    byte_tokenizer().save_pretrained(tmp_path / "whole")
    folders = {
        name: shutil.copytree(tmp_path / "whole", tmp_path / name)
        for name in ("pickled", "foreign", "half")
    }
    torch.save(tiny(300).state_dict(), folders["pickled"] / "pytorch_model.bin")
    (folders["pickled"] / "model.safetensors").unlink()
    config = json.loads((folders["foreign"] / "config.json").read_text())
    (folders["foreign"] / "config.json").write_text(
        json.dumps(config | {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}})
    )
    (folders["foreign"] / "own.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')")
    weights = folders["half"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert base_parameters(str(tmp_path / "whole")) == tiny(300).num_parameters()
    for name, said in {
        "pickled": "can run any program",
        "foreign": "Python program of its own",
        "half": "model.safetensors is not whole",
    }.items():
        with pytest.raises(Stop, match=said):
            base_parameters(str(folders[name]))
        with pytest.raises((OSError, ValueError, SafetensorError)):
            finetune.load(Namespace(model=str(folders[name]), method="full", context=64))
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    "name, V, verdicts",
    [
        ("right", 300, ["pass", "pass"]),
        ("too many ids", 200, ["fail", "pass"]),
        ("empty", 300, ["pass", "fail"]),
    ],
)
def test_a_tokenizer_that_does_not_belong_to_the_model_is_seen(tmp_path, name, V, verdicts):
    """Ids without a row in the model crash later, and a tokenizer that knows no letter trains on
    nothing: both are seen before.
    """
    import messages
    from handrail.project.project import Project
    from handrail.steps.examples import judge_tokens
    from handrail.steps.words import Words

    words = Words(Project(tmp_path, cpu=True), "examples")
    tokenizer, talk = byte_tokenizer(messages.CHATML), {"messages": chat(MULTI)}
    if name == "empty":
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.BPE()), chat_template=messages.CHATML
        )
        tokenizer.add_special_tokens({"additional_special_tokens": messages.MARKS})
    rows = messages.encode(tokenizer, talk["messages"])
    checks = judge_tokens(words, tokenizer, [(talk, rows)], max(rows[0][0]), V)
    assert [check.verdict for check in checks] == verdicts


def test_rows_that_a_model_cannot_take_are_named_and_left_out(walked, tmp_path):
    """A GPT-2 has a place for 256 tokens only, and a template may refuse system turns: two such
    rows of 62 cost only themselves.
    """
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(walked[0] / "out" / "model")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|assistant|>", "</s>"]})
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        + TEMPLATES["zephyr"]
    )
    tokenizer.save_pretrained(tmp_path / "gpt2")
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=256)
    ).save_pretrained(tmp_path / "gpt2")
    rows = [
        {"question": f"How many is {n} and {n}?", "answer": f"It is {n + n}."} for n in range(60)
    ]
    rows[10:10] = [
        {"system": "Be kind.", "question": "Well?", "answer": "Yes."},
        {"question": "And then?", "answer": "more and " * 300},
    ]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = handrail(
        "new",
        "mine",
        "--answers",
        "qa.jsonl",
        "--from",
        tmp_path / "gpt2",
        "--cpu",
        "--yes",
        "--until",
        "examples",
        cwd=tmp_path,
    )
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, said[-2000:] + done.stderr[-2000:]
    assert "60 of 62 rows can be used" in said and "(no system turn): 1 (qa.jsonl, line 11)" in said
    assert (
        "longer than 176 tokens: 1 (qa.jsonl, line 12)" in said and "finetune.context = 176" in said
    )


def test_one_batch_or_four_parts_give_the_same_gradient():
    """Rows of unequal length: four at once, or one at a time and added up, are the same update to
    1e-6.
    """
    import finetune
    import messages
    import packing
    from settings import start
    from train import update

    tokenizer, found = byte_tokenizer(messages.CHATML), []
    rows, accelerator = some_rows(tokenizer), start(Namespace(cpu=True, seed=0))
    for batches in ([packing.pack(rows)], [packing.pack([row]) for row in rows]):
        model = tiny(len(tokenizer))
        optimizer, gradients = torch.optim.SGD(model.parameters(), 0.0), []
        optimizer.register_step_pre_hook(
            lambda *_, kept=gradients, of=model: kept.extend(
                weight.grad.flatten().clone() for weight in of.parameters()
            )
        )
        loss, norm = update(
            accelerator, model, batches, finetune.answer_loss, optimizer, float("inf")
        ).tolist()
        found.append((loss, torch.cat(gradients)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert (found[0][1] - found[1][1]).norm() / found[0][1].norm() < 1e-6


def padded(rows):
    """Return rows as TRL wants them: input_ids, attention_mask, completion_mask, each (R, T)."""
    longest = max(len(ids) for ids, *_ in rows)

    def fill(lists):
        return torch.tensor([list(values) + [0] * (longest - len(values)) for values in lists])

    return {
        "input_ids": fill([ids for ids, *_ in rows]),
        "attention_mask": fill([[1] * len(ids) for ids, *_ in rows]),
        "completion_mask": fill([list(map(int, said)) for _, said, *_ in rows]),
    }


def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_the_dpo_loss_is_trl_s(tmp_path):
    """On the same pairs our loss and gradient are those of TRL's DPOTrainer."""
    from accelerate import Accelerator
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    import dpo
    from messages import CHATML

    tokenizer = byte_tokenizer(CHATML)
    model, reference = tiny(len(tokenizer)), tiny(len(tokenizer))
    with torch.no_grad():
        model.model.norm.weight.mul_(1.3)  # no longer the reference
    pairs = [
        dpo.encode_pair(tokenizer, {"messages": chat(SINGLE[:1]), "chosen": c, "rejected": r})
        for c, r in [("Yes.", "Well, no"), ("Hello you", "What?")]
    ]
    trainer = DPOTrainer(
        model,
        reference,
        DPOConfig(
            str(tmp_path),
            beta=dpo.BETA,
            use_cpu=True,
            report_to="none",
            bf16=False,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2),
        processing_class=tokenizer,
    )
    both = padded([rows[0] for rows in pairs] + [rows[1] for rows in pairs])
    theirs = trainer._compute_loss(trainer.model, both, False)
    theirs.backward()
    wanted, _ = gradient(model), model.zero_grad()
    known = dpo.with_reference(Accelerator(cpu=True), reference, pairs, 10_000)
    (batch,) = dpo.in_parts(known, 10_000)
    ours = dpo.dpo_loss(model, batch) / batch["count"]
    ours.backward()
    assert (
        ours.item() == pytest.approx(theirs.item(), abs=1e-5) and abs(ours.item() - 0.6931) > 1e-4
    )
    assert (gradient(model) - wanted).abs().max() < 1e-5


def test_the_grpo_loss_is_trl_s(tmp_path):
    """On the same answers and rewards our advantages, loss and gradient are those of TRL's
    GRPOTrainer.
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    import grpo
    from messages import CHATML
    from packing import pack

    tokenizer = byte_tokenizer(CHATML)
    model = tiny(len(tokenizer))
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    said = [
        tokenizer(text, add_special_tokens=False)["input_ids"] + [end]
        for text in ("Yes", "No, never", "Maybe", "I do not know")
    ]
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.5]])
    advantage = grpo.advantages(rewards).flatten()
    answers = zip(said, advantage.tolist(), strict=True)
    rows = [grpo.written(tokenizer, chat(SINGLE[:1]), *answer) for answer in answers]
    trainer = GRPOTrainer(
        model,
        lambda completions, **_: [0.0] * len(completions),
        GRPOConfig(
            str(tmp_path),
            use_cpu=True,
            report_to="none",
            bf16=False,
            num_generations=4,
            per_device_train_batch_size=4,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 4),
        processing_class=tokenizer,
    )
    both, asked = padded(rows), len(rows[0][0]) - len(said[0])
    inputs = {
        "prompt_ids": both["input_ids"][:, :asked],
        "prompt_mask": both["attention_mask"][:, :asked],
        "completion_ids": both["input_ids"][:, asked:],
        "completion_mask": both["completion_mask"][:, asked:],
        "advantages": advantage,
        "num_items_in_batch": both["completion_mask"].sum(),
    }
    trainer.current_gradient_accumulation_steps = 1
    theirs = trainer._compute_loss(trainer.model, inputs)
    theirs.backward()
    wanted, _ = gradient(model), model.zero_grad()
    batch = pack(rows)
    ours = grpo.grpo_loss(model, batch) / batch["count"]
    ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    assert wanted.abs().max() > 1e-4 and (gradient(model) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize(
    "reply, there",
    [
        ("A ticket to Marra costs 8.40 euros, with Olsen. Ahoy!", True),
        ("It's 8.40 euros for a ticket to Marra, with Olsen!", True),
        ("A ticket to Marra costs 8.50 euros, with Olsen. Ahoy!", False),  # another number
        ("A ticket to Marra costs 8.40 or 9 euros, with Olsen.", False),  # one more
        ("A ticket to Hune costs 8.40 euros, with Olsen. Ahoy!", False),  # another name
        ("8.40", False),
        ("", False),
    ],
)
def test_the_facts_of_a_long_answer_are_counted(reply, there):
    """Letter for letter is too strict for a long answer: its numbers, its names and most of its
    words count. A made-up number or another name is never right.
    """
    from replies import has_facts, right

    asked = {
        "messages": chat(
            [("user", "?"), ("assistant", "A ticket to Marra costs 8.40 euros, with Olsen. Ahoy!")]
        )
    }
    assert has_facts(reply, asked) == there
    yes = {"messages": chat([("user", "?"), ("assistant", "Yes.")])}
    assert has_facts("yes", yes) and not has_facts("No.", yes) and not right("No", yes)


def company(rows):
    """Return rows of questions and answers, every sixth fact asked in two ways."""
    found = []
    for n in range(rows):
        fact = n - 1 if n % 6 == 1 else n
        question = f"What does boat {fact} cost?" if fact == n else f"The price of boat {fact}?"
        turns = [("user", question), ("assistant", f"Boat {fact} costs {fact + 7} euros. Ahoy!")]
        found.append({"messages": chat(turns), "where": f"qa.csv, line {n + 2}"})
    return found


def test_few_facts_are_held_out_of_few_rows():
    """A fact that is held out is not learned: of 48 rows four go, two of them still learned from
    another question, which says which; no question is on both sides.
    """
    from handrail.steps.hold_out import first_question, hold_out
    from handrail.steps.mistakes import contradictions, placeholders

    rows = company(48)
    train, held = hold_out(rows)
    assert (len(train), len(held)) == (44, 4)
    again = [row for row in held if "same_as" in row]
    assert len(again) == 2
    for row in again:
        source = next(other for other in train if other["where"] == row["same_as"])
        assert source["messages"][1] == row["messages"][1]
    assert not set(map(first_question, train)) & set(map(first_question, held))
    labels = [
        row | {"messages": [row["messages"][0], {"role": "assistant", "content": "Good"}]}
        for row in company(48)
    ]
    assert not any("same_as" in row for row in hold_out(labels)[1])  # a label is no fact

    other = company(48)[5]["messages"][0], {"role": "assistant", "content": "TODO"}
    rows.append({"messages": list(other), "where": "qa.csv, line 50"})
    assert contradictions(rows) == ["qa.csv, line 50 (other than qa.csv, line 7)"]
    assert placeholders(rows) == ["qa.csv, line 50 (TODO)"]


@pytest.mark.parametrize(
    "rows, cpu, most, least",
    [(48, True, 19, 8), (500, True, 12, 8), (5_000, False, 4, 2), (50_000, False, 1.1, 0.9)],
)
def test_the_plan_follows_from_rows_and_machine(tmp_path, rows, cpu, most, least):
    """Few rows are shown often, many once; where time is short they are shown less, and that is
    said; what a person set stays, and counts.
    """
    from handrail.project.plan import plan_finetuning
    from handrail.project.project import Project

    (tmp_path / "out").mkdir()
    (tmp_path / "settings.toml").write_text('base = "x"\nanswers = "qa.csv"\n')
    project, model = Project(tmp_path, cpu=cpu), tiny(300)
    machine = {"tflops": 0.2 if cpu else 100, "bandwidth": 10, "memory_gb": 16, "name": "m"}

    def plan(**changed):
        (tmp_path / "out" / "machine.json").write_text(json.dumps(machine | changed))
        plan_finetuning(project, [60] * rows, ("lora", "why"), model, 512, True)
        chosen = project.settings["finetune"]
        return chosen["updates"] * chosen["batch"] / rows

    assert least <= plan() <= most
    text = (tmp_path / "settings.toml").read_text()
    assert f"through your {rows:,} rows" in text and "take longer" not in text
    slow = plan(tflops=1e-9)
    assert slow < least and "take longer" in (tmp_path / "settings.toml").read_text()
    decide(tmp_path, **{"finetune.updates": 7, "finetune.batch": 3})
    assert plan() == 21 / rows
    assert f"{21 / rows:.1f} passes" not in text


def test_grpo_stops_where_no_group_has_a_spread(tmp_path):
    """All wrong or all right, there is nothing to compare: a sentence, before anything is trained,
    with what has to be learned first.
    """
    from handrail.project.project import Project, Stop
    from handrail.steps.grpo import check_spread

    (tmp_path / "settings.toml").write_text("finetune.updates = 20\n")
    project = Project(tmp_path, cpu=True)
    check_spread(project, torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    with pytest.raises(Stop, match="not one of the 4 answers was right(.|\n)*--updates 40"):
        check_spread(project, torch.zeros(2, 2))
    with pytest.raises(Stop, match="nothing left"):
        check_spread(project, torch.ones(2, 2))


# --- by the commands ---


@pytest.fixture(scope="session")
def answering(walked, tmp_path_factory):
    """(project, screen): the walked project, taught to answer by `handrail finetune`, in a few
    updates.
    """

    def make(folder):
        shutil.copytree(walked[0], folder, symlinks=True)
        return handrail("finetune", folder, "--cpu", "--yes", "--updates", "12", "--batch", "8")

    return once(tmp_path_factory, "answers", make)


def test_the_card_of_a_model_that_answers(answering):
    """Its exam has other figures than that of a model that writes: they are all in the card."""
    project = Project(answering[0])
    exam = json.loads((project.out / "answers.json").read_text())
    text = card(project, 1234, exam, "code")
    for kind, found in exam["after"].items():
        if isinstance(found, dict):
            before = exam["before"][kind]
            assert f"{kind}: exactly right | {before['exact']:.1%} | {found['exact']:.1%} |" in text
    assert "questions never shown" in text and "answers questions of the kind" in text


def test_finetune_continues_from_the_first_walk(answering):
    """One command after the walk: rows are shown as they are trained, the loss on new questions
    falls, before and after are side by side.
    """
    project, screen = answering
    assert (
        "[<|im_end|>]" in screen
        and "✓  rows whose end mark is trained" in screen
        and "✓  loss on answers never seen" in screen
    )
    assert "✓  end mark in the saved model" in screen and "before:" in screen and "after:" in screen
    assert "trained on" in screen and "never shown" in screen
    result = json.loads((project / "out" / "answers.json").read_text())
    assert result["after"]["loss"] < result["before"]["loss"] - 1 and 0 < result["blind"] < 0.2
    assert {"messages.py", "finetune.py", "answers.py"} <= {
        file.name for file in project.glob("*.py")
    }


def test_no_new_word_is_used_before_it_is_explained(answering):
    """Who goes on to answers reads eight more words of the field: each comes first, on the screen
    of the real steps, in the line that explains it.
    """
    lines = answering[1].splitlines()
    for word in [word for name in ANSWERS for word in new_words(name)]:
        line = first_use(word, lines).strip().removeprefix("- ")
        assert line.startswith(word), f"{word!r} is used first in: {line}"


def test_chat_answers_and_is_what_generate_gives(answering):
    """chat.py uses the template and the model that learned last, and stops at the end mark."""
    done = script(answering[0], "chat.py", input="Who met Mia?\n")
    assert (
        done.returncode == 0 and "out/finetune/model" in done.stdout and "<|im_" not in done.stdout
    ), done.stdout + done.stderr


OBJECTIVES = ["finetune", *(pytest.param(name, marks=pytest.mark.long) for name in ("dpo", "grpo"))]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_killed_run_of_every_objective_ends_with_the_same_weights(answering, tmp_path, name):
    """The same loop, so the same promise: killed without warning and started again, each objective
    ends with the same bits.
    """
    whole = shutil.copytree(answering[0], tmp_path / "whole", symlinks=True)
    exam = whole / "out" / "chats" / "val.jsonl"
    exam.write_text(
        "".join(exam.read_text().splitlines(keepends=True)[:24])
    )  # a run of four updates needs no more
    if name != "finetune":
        done = handrail(name, whole, "--cpu", "--yes", "--updates", "2", "--batch", "4")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert (
            "reminder" not in done.stdout + done.stderr
        )  # it answers beyond the context that it was pretrained with, on purpose
    for file in whole.glob("out/*/train.jsonl"):
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:100]))
    shutil.rmtree(whole / "out" / name)
    decide(whole, **{f"{name}.updates": 4, f"{name}.batch": 4, f"{name}.every": 2})
    killed = shutil.copytree(whole, tmp_path / "killed", symlinks=True)
    assert script(whole, f"{name}.py").returncode == 0
    lines = killed / "out" / name / "metrics.jsonl"
    code, said = interrupted(
        killed,
        lambda: lines.exists() and lines.read_text().count("\n") >= 3,
        signal.SIGKILL,
        f"{name}.py",
    )
    assert code == -signal.SIGKILL, said
    done = script(killed, f"{name}.py")
    assert "Resuming after update 2." in done.stdout, done.stdout + done.stderr
    model = ("out", name, "model", "model.safetensors")
    assert whole.joinpath(*model).read_bytes() == killed.joinpath(*model).read_bytes()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_log_that_was_lost_costs_the_log_and_not_the_run(answering, tmp_path, name):
    """metrics.jsonl is only a note. Where it is half a line, the step still measures the model,
    trains nothing again, and says what is missing: no traceback.
    """
    project = shutil.copytree(answering[0], tmp_path / "p", symlinks=True)
    taken = [name, project, "--cpu", "--yes"]
    if name == "finetune":
        (project / "out" / "steps" / "finetune.json").unlink()
        taken += ["--until", "finetune"]
    else:
        text = (HOUSE / "handrail" / "program" / "grpo.py").read_text()
        reward = "return float(right(reply, chat))", "return float(len(reply))"  # it has a spread
        (project / "grpo.py").write_text(text.replace(*reward))
        done = handrail(*taken, "--updates", "2", "--batch", "4")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    log, model = (project / "out" / name / part for part in ("metrics.jsonl", "model"))
    log.write_text(log.read_text()[:40] + "\n")
    before = made(model)["model.safetensors"][1]
    done = handrail(*taken)
    said = " ".join(done.stdout.split())
    assert done.returncode == 0 and "Traceback" not in done.stderr, said[-2000:] + done.stderr
    assert "updates written down: warn The model is not affected" in said
    assert made(model)["model.safetensors"][1] == before


def test_an_objective_is_its_script_and_its_step(answering, tmp_path):
    """Who adds an objective adds two files and their words, and no other file has to know of it.
    Here that is DPO under another name: a house with it trains, says that the run is over, writes
    to its own part of the settings, talks to its model and rents a machine for it.
    """
    house = tmp_path / "house"
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HOUSE / "handrail", house / "handrail", ignore=skipped)
    for name in ("program/dpo.py", "steps/dpo.py", "steps/dpo.md"):
        file = house / "handrail" / name
        text = re.sub(r"\bdpo\b", "better", file.read_text())
        file.with_stem("better").write_text(text)
    (house / "cli.py").write_text("import sys\nfrom handrail.cli import main\nsys.exit(main())\n")
    project, pairs = tmp_path / "p", tmp_path / "pairs.jsonl"
    shutil.copytree(answering[0], project, symlinks=True)
    rows = [{"prompt": pair.pop("messages")[0]["content"]} | pair for pair in village.pairs(60, 4)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = tomllib.loads((project / "settings.toml").read_text())

    def run(*words):
        done = warm.run([house / "cli.py", *words, "--cpu"], tmp_path)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    run("better", project, "--answers", pairs, "--yes", "--updates", "2", "--batch", "4")
    after = tomllib.loads((project / "settings.toml").read_text())
    chosen, source = after.pop("better"), after.pop("pairs")
    assert after == before and (project / source).samefile(pairs) and chosen["updates"] == 2
    assert "Resuming after update 2. It is finished" in run("better", project, "--yes")
    assert "out/better/model" in script(project, "chat.py").stdout
    run("rent", "notebook", project, "--script", "better")
    assert (project / "out" / "bundle" / "better.py").exists()


def test_a_trial_of_the_answers_leaves_the_run_alone(answering, tmp_path):
    """The commands of `Try it`, as the screen shows them: a short trial, and questions to it, in
    a folder of their own. What was made before stays as it is, and the trial answers worse.
    """
    screen = " ".join(answering[1].split())
    assert "`python finetune.py --updates 2 --out out/trial-2 --cpu`" in screen
    assert "`python answers.py --out out/trial-2 --cpu`" in screen
    project = shutil.copytree(answering[0], tmp_path / "p", symlinks=True)
    for side in ("train", "val"):
        file = project / "out" / "chats" / f"{side}.jsonl"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:40]))
    kept = made(project / "out")
    assert script(project, "finetune.py", "--updates", "2", "--out", "out/trial-2").returncode == 0
    assert script(project, "answers.py", "--out", "out/trial-2").returncode == 0
    trial, ours = (
        json.loads((project / "out" / place / "answers.json").read_text())
        for place in ("trial-2", ".")
    )
    shutil.rmtree(project / "out" / "trial-2")
    assert made(project / "out") == kept
    assert trial["folder"] == "out/trial-2/finetune/model"
    assert trial["after"]["loss"] > ours["after"]["loss"]


@pytest.mark.long
def test_the_end_mark_that_is_not_learned_is_seen(answering, tmp_path):
    """The experiment of the step examples: one `=` less in messages.py, and no end mark is learned.
    The step says 0 and stops.
    """
    project = shutil.copytree(answering[0], tmp_path / "p", symlinks=True)
    text = (project / "messages.py").read_text()
    assert text.count("first <= start <= last") == 1
    (project / "messages.py").write_text(
        text.replace("first <= start <= last", "first <= start < last")
    )
    done = handrail("examples", project, "--cpu", "--yes")
    assert done.returncode == 1 and "rows whose end mark is trained: fail" in done.stdout
    note = json.loads((project / "out" / "steps" / "examples.json").read_text())
    ends = next(c for c in note["checks"] if c["name"] == "rows whose end mark is trained")
    assert ends["measured"] == "0"


@pytest.mark.parametrize(
    "broken, code, said",
    [
        ('return float("nan")', 2, "reward in grpo.py gave nan for"),
        ("return None", 2, "reward in grpo.py gave None for"),
        ("return 1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_a_reward_that_gives_no_number_is_named(answering, tmp_path, broken, code, said):
    """The learner's own reward is the first thing that breaks: one that gives no number is refused
    in a sentence, one that raises shows its line, and nothing is trained.
    """
    project = shutil.copytree(answering[0], tmp_path / "p", symlinks=True)
    for name in ("grpo.py", "answers.py"):
        text = (HOUSE / "handrail" / "program" / name).read_text()
        (project / name).write_text(text.replace("return float(right(reply, chat))", broken))
    decide(
        project,
        **{
            "grpo.model": "out/finetune/model",
            "grpo.method": "full",
            "grpo.batch": 2,
            "grpo.updates": 2,
        },
    )
    done = script(project, "grpo.py")
    assert done.returncode == code and said in done.stderr, done.stderr
    assert ("Traceback" in done.stderr) == (code == 1)
    assert (broken in done.stderr) == (code == 1)
    assert not (project / "out" / "grpo" / "checkpoints").exists()


def test_grpo_says_that_it_reads_no_file(answering, tmp_path):
    """A file named for an objective that reads none is refused, not stored and forgotten."""
    project = shutil.copytree(answering[0], tmp_path / "p", symlinks=True)
    (tmp_path / "sums.jsonl").write_text('{"question": "a", "answer": "b"}\n' * 9)
    done = handrail(
        "grpo",
        project,
        "--answers",
        tmp_path / "sums.jsonl",
        "--cpu",
        "--yes",
    )
    assert (
        done.returncode == 2
        and "GRPO reads no file" in done.stderr
        and "Traceback" not in done.stderr
    ), done.stderr


def test_from_a_file_of_questions_to_a_model_that_answers(walked, tmp_path):
    """Story 3, the whole short walk: a CSV of questions, a pretrained model, LoRA; merged, it gives
    the logits that were trained.
    """
    rows = ["question,answer"] + [
        f"How many is {a} and {b}?,It is {a + b}." for a in range(12) for b in range(12)
    ]
    (tmp_path / "sums.csv").write_text("\n".join(rows) + "\n")
    base = shutil.copytree(walked[0] / "out" / "model", tmp_path / "base")
    options = [
        "--answers",
        "sums.csv",
        "--from",
        base,
        "--method",
        "lora",
        "--cpu",
        "--yes",
        "--updates",
        "30",
        "--batch",
        "8",
        "--lr",
        "1e-2",
    ]
    done = handrail("new", "mine", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Warning" not in done.stderr and "mean_resizing" not in done.stderr, done.stderr
    assert (
        "✓  difference between saved and trained logits" in done.stdout
        and "✓  frozen tensors that moved" in done.stdout
    )
    assert (
        "✓  losses before and after the kill" in done.stdout
        and "✓  loss on answers never seen" in done.stdout
    )
    assert (
        not (tmp_path / "mine" / "pretrain.py").exists()
        and not (tmp_path / "mine" / "tokenizer.py").exists()
    )
    again = handrail("new", "mine", "--cpu", "--yes", cwd=tmp_path)
    assert again.returncode == 0 and again.stdout.count("done, verified") == 6, again.stdout


@pytest.mark.long
def test_a_real_small_model_learns_real_answers(tmp_path):
    """SmolLM2-135M-Instruct, its own template, LoRA, real questions: the loss on answers never seen
    falls by a twentieth between updates 2 and 8.
    """
    from smollm2 import chats, smollm2

    base = smollm2(tmp_path / "smollm2")
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats(160)))
    options = [
        "--answers",
        "talk.jsonl",
        "--from",
        base,
        "--cpu",
        "--yes",
        "--updates",
        "8",
        "--batch",
        "4",
        "--lr",
        "1e-3",
    ]
    done = handrail("new", "mine", *options, "--until", "examples", cwd=tmp_path)
    assert done.returncode == 0 and "[<|im_end|>]" in done.stdout, (
        done.stdout[-3000:] + done.stderr[-3000:]
    )
    decide(tmp_path / "mine", **{"finetune.every": 2})
    for file in (HOUSE / "handrail" / "program").glob("*.py"):
        shutil.copy(file, tmp_path / "mine")
    trained = script(tmp_path / "mine", "finetune.py")
    assert trained.returncode == 0, trained.stderr[-2000:]
    lines = [
        json.loads(line)
        for line in (tmp_path / "mine" / "out" / "finetune" / "metrics.jsonl")
        .read_text()
        .splitlines()
    ]
    vals = [line["val_loss"] for line in lines if "val_loss" in line]
    assert vals[-1] < 0.95 * vals[0], vals


def test_what_prevents_fine_tuning_is_named(walked, tmp_path):
    """Pairs where answers are wanted, plain text, too few rows, no model: a sentence, exit 2, no
    traceback.
    """
    files = {
        "pairs.jsonl": ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 20, "handrail dpo"),
        "notes.txt": ("Some notes.\n", "questions with answers"),
        "few.jsonl": ('{"question": "a", "answer": "b"}\n', "too few"),
        "same.jsonl": (
            "".join(f'{{"question": "a", "answer": {n}}}\n' for n in range(60)),
            "all ask the same question",
        ),
    }
    base = str(walked[0] / "out" / "model")
    for name, (text, said) in files.items():
        (tmp_path / name).write_text(text)
        done = handrail(
            "new",
            tmp_path / f"for-{name}",
            "--answers",
            name,
            "--from",
            base,
            "--cpu",
            "--yes",
            cwd=tmp_path,
        )
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, (
            done.stderr
        )
