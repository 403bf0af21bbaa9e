"""What leaves the house: GGUF files for llama.cpp and Ollama, the model card, the upload.

`handrail share` as a whole is in test_walk.py. llama.cpp itself is asked in bench/converted.py.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import gguf
import pexpect
import pytest
import torch
from conftest import HOUSE, decide, handrail, made
from huggingface_hub import ModelCard
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from handrail.project.project import Project
from handrail.project.screen import Screen
from handrail.steps import gguf_file
from handrail.steps.card import card, choose, own_files, page
from handrail.steps.share import Pages, converted, write_pages
from handrail.steps.words import Words
from handrail.walk import status

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKS = ["<|im_start|>", "<|im_end|>"]


@pytest.fixture
def walked_model(walked):
    """(model, tokenizer) of the walk: a Qwen3 from scratch, with a tokenizer of its own."""
    folder = walked[0] / "out" / "model"
    kinds = (AutoModelForCausalLM, AutoTokenizer)
    return tuple(kind.from_pretrained(folder) for kind in kinds)


@pytest.fixture
def grown(walked, tmp_path):
    return shutil.copytree(walked[0], tmp_path / "grown", symlinks=True)


@pytest.fixture
def answerer(walked_model):
    """(model, tokenizer): a Llama with what is awkward: fewer heads for keys than for queries, an
    output of its own, more rows than tokens, SmolLM2's way of cutting texts, a chat template.
    """
    _, tokenizer = walked_model
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    tokenizer.add_tokens(["plain"])
    tokenizer.chat_template = CHATML
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    cut = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    tokenizer.backend_tokenizer.pre_tokenizer = cut
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 5,
        hidden_size=48,
        intermediate_size=80,  # no multiple of 32: stays in full precision
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        eos_token_id=tokenizer.convert_tokens_to_ids(MARKS[1]),
        initializer_range=0.3,  # so that attention matters
    )
    return LlamaForCausalLM(config).eval(), tokenizer


def written(model, tokenizer, folder):
    """Write both files; return {name: value} of what the one in full precision says."""
    for part in (model, tokenizer):
        part.save_pretrained(folder / "saved")
    model.config.name_or_path = model.name_or_path = str(folder / "saved")
    gguf_file.write(model, tokenizer, folder, "a model")
    reader = gguf.GGUFReader(folder / "model-f32.gguf")
    return {name: field.contents() for name, field in reader.fields.items()}


def test_a_model_of_the_walk_writes_the_same_as_gguf(walked_model, tmp_path):
    """Somebody takes their first model to Ollama: it must be that model. 40 tokens, the likeliest
    each time; GPT-2's way of cutting a text; a document begins after END, as in chat.py.
    """
    model, tokenizer = walked_model
    found = written(model, tokenizer, tmp_path)
    here, there = gguf_file.compared(model, tokenizer, tmp_path, "One ")
    assert here == there and len(here) > 10
    assert found["tokenizer.ggml.pre"] == "gpt-2"
    assert found["tokenizer.ggml.add_bos_token"] is True
    end = tokenizer.eos_token_id
    assert found["tokenizer.ggml.bos_token_id"] == found["tokenizer.ggml.eos_token_id"] == end
    assert found["tokenizer.ggml.token_type"][end] == gguf.TokenType.CONTROL
    assert len(found["tokenizer.ggml.tokens"]) == len(tokenizer)
    tensors = gguf.GGUFReader(tmp_path / "model-q8_0.gguf").tensors
    kinds = {tensor.name: tensor.tensor_type.name for tensor in tensors}
    assert "output.weight" not in kinds and kinds["token_embd.weight"] == "Q8_0"
    assert kinds["output_norm.weight"] == kinds["blk.0.attn_q_norm.weight"] == "F32"


@torch.no_grad()
def test_a_llama_is_read_from_its_gguf_alone(answerer, tmp_path):
    """Rotated pairs in another order, a wrong head, a missing output: the file would load and write
    nonsense. Transformers reads the GGUF without our config, and must find the same logits.
    """
    model, tokenizer = answerer
    found = written(model, tokenizer, tmp_path)
    ids = torch.arange(3, 43)[None]
    logits = model(ids).logits
    for name, near in (("model-f32.gguf", 1e-5), ("model-q8_0.gguf", 0.05)):
        again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=name, dtype=torch.float32)
        assert (again(ids).logits - logits).abs().max() < near * logits.abs().max(), name
    types = found["tokenizer.ggml.token_type"]
    assert found["tokenizer.ggml.pre"] == "smollm" and len(types) == model.config.vocab_size
    assert types[-5:] == [gguf.TokenType.UNUSED] * 5
    assert types[tokenizer.convert_tokens_to_ids("plain")] == gguf.TokenType.USER_DEFINED
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert found["tokenizer.ggml.eot_token_id"] == tokenizer.convert_tokens_to_ids(MARKS[1])
    assert found["tokenizer.chat_template"] == CHATML


def test_merged_lora_writes_the_same_as_gguf(answerer, tmp_path):
    """LoRA's correction is part of the weights when finetune.py saves: the GGUF has it, too."""
    from peft import LoraConfig, get_peft_model

    model, tokenizer = answerer
    plain = model(torch.tensor([[5, 6, 7]])).logits
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False
    )
    merged = get_peft_model(model, lora).merge_and_unload()
    assert (merged(torch.tensor([[5, 6, 7]])).logits - plain).abs().max() > 0.1
    merged.save_pretrained(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    written(merged, tokenizer, tmp_path)
    here, there = gguf_file.compared(merged, tokenizer, tmp_path, "Who are you?")
    assert here == there and here


def test_what_no_gguf_can_be_made_of_is_named(answerer):
    """A file that loads and writes badly is worse than none."""
    model, tokenizer = answerer
    assert gguf_file.refusal(model, tokenizer) is None
    cases = {
        "letters are changed": ("normalizer", "Lowercase"),
        "a cut that llama.cpp does not know": ("pre_tokenizer", "Whitespace"),
    }
    from tokenizers import normalizers

    for name, (part, kind) in cases.items():
        before = getattr(tokenizer.backend_tokenizer, part)
        module = normalizers if part == "normalizer" else pre_tokenizers
        setattr(tokenizer.backend_tokenizer, part, getattr(module, kind)())
        assert gguf_file.refusal(model, tokenizer) == "GGUF with another tokenizer", name
        setattr(tokenizer.backend_tokenizer, part, before)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    other = Tokenizer(models.Unigram([(letter, -3.0) for letter in letters]))
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    unigram = PreTrainedTokenizerFast(tokenizer_object=other, eos_token="<end>")
    assert gguf_file.refusal(model, unigram) == "GGUF with another tokenizer"
    model.config.hidden_act = "gelu"
    assert gguf_file.refusal(model, tokenizer) == "GGUF of another architecture"
    model.config.hidden_act = "silu"
    assert gguf_file.refusal(model, tokenizer) is None
    model.config.rope_parameters["rope_type"] = "yarn"
    assert gguf_file.refusal(model, tokenizer) == "GGUF of another architecture"


def test_no_gguf_does_not_stop_the_rest(grown, walked_model):
    """A model of another architecture is shared all the same: the step says that there is no GGUF,
    leaves none of an earlier model, and names the converter that knows more.
    """
    _, tokenizer = walked_model
    (grown / "out" / "gguf").mkdir()
    for name in ("model-f32.gguf", "model-q4_k_m.gguf"):  # the second made by its owner
        (grown / "out" / "gguf" / name).write_text("")
    other = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2))
    project = Project(grown)
    pages = Pages(project, Screen(yes=True))
    check = converted(project, Words(project, "share"), pages, other, tokenizer)
    assert check.verdict == "warn" and check.measured == "gpt2"
    assert "No GGUF was made" in check.meaning and "convert_hf_to_gguf.py" in check.advice
    assert [file.name for file in (grown / "out" / "gguf").iterdir()] == ["model-q4_k_m.gguf"]


SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
)
ODD = "{% for message in messages %}{{ loop.index ~ message['content'] }}{% endfor %}"


@pytest.mark.parametrize("template", [CHATML, SYSTEM + CHATML])
def test_ollama_sees_what_the_chat_template_shows(answerer, walked, template):
    """Ollama has a language of its own for chats. What its TEMPLATE makes of a talk must be what
    the model was trained on, or it answers worse and nobody knows why.
    """
    model, tokenizer = answerer
    tokenizer.chat_template = template
    values = gguf_file.modelfile(model, tokenizer) | {"name": "mine"}
    text = page(Project(walked[0]), "Modelfile", **values)
    assert values["stops"] == ["<|im_end|>", "<|im_start|>"]
    assert (
        'PARAMETER stop "<|im_end|>"\nPARAMETER stop "<|im_start|>"\nPARAMETER num_predict 32'
        in text
    )
    assert "PARAMETER repeat_penalty 1\n" in text and "PARAMETER top_k 0\n" in text
    go = re.search('TEMPLATE """(.*?)"""', text, re.S)[1]
    for roles in (["user"], ["user", "assistant", "user"], ["system", "user", "assistant", "user"]):
        talk = [{"role": role, "content": f"{role} {n}"} for n, role in enumerate(roles)]
        shown = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        assert filled(go, talk) == shown
    tokenizer.chat_template = ODD  # depends on where a message stands: no TEMPLATE
    assert gguf_file.modelfile(model, tokenizer)["turns"] is None


def filled(go, talk):
    """Return what Go's template language makes of our TEMPLATE: a loop, conditions, contents."""
    head, body, tail = re.fullmatch(r"(\{\{ range [^}]*\}\})(.*)(\{\{ end \}\})", go, re.S).groups()
    found = ""
    for number, message in enumerate(talk):
        known = {'eq $m.Role "system"': message["role"] == "system"}
        known |= {'eq $m.Role "user"': message["role"] == "user", "eq $i 0": number == 0}
        stack = []  # (is this branch shown, was one shown before it)
        for part in re.split(r"(\{\{.*?\}\})", body):
            word = part.strip("{} ") if part.startswith("{{") else None
            if word and word.startswith("if "):
                stack.append([known[word[3:]]] * 2)
            elif word and word.startswith("else"):
                now = not stack[-1][1] and (word == "else" or known[word[8:]])
                stack[-1] = [now, stack[-1][1] or now]
            elif word == "end":
                stack.pop()
            elif all(shown for shown, _ in stack):
                found += message["content"] if word == "$m.Content" else part
        assert not stack
    return found


# --- the card, the licence, the upload ---


def test_the_card_is_complete_and_invents_nothing(grown):
    """A licence is its owner's choice: none is made up, and the place for it is marked. The hub's
    library reads the card; nothing on it tells of the owner's machine.
    """
    exam = json.loads((grown / "out" / "evaluation.json").read_text())
    text = card(Project(grown), 1234, exam, "code")
    assert "\n# CHOOSE A LICENCE" in text and ModelCard(text).data.license is None
    assert ModelCard(text).data.tags == ["handrail"]  # there is no GGUF
    (grown / "out" / "gguf").mkdir()
    (grown / "out" / "gguf" / "model-q8_0.gguf").write_text("")
    decide(grown, license="mit", language="en", base="/home/maria/base", data="owner/texts:part")
    Project(grown).decide("finetune.model", "/home/maria/base", "the model that learns")
    text = card(Project(grown), 1234, exam, "code")
    data = ModelCard(text).data
    assert (data.license, data.language, data.datasets) == ("mit", "en", ["owner/texts"])
    assert "CHOOSE" not in text and "maria" not in text and data.base_model is None
    assert "gguf" in data.tags and f"| this model | {exam['model']:.3f} |" in text


def test_own_answers_on_top_of_the_stories_are_the_owners(grown):
    """The card and the upload name them; they are not nobody's, as the stories are."""
    exam = json.loads((grown / "out" / "evaluation.json").read_text())
    assert own_files(Project(grown)) == []
    decide(grown, answers="me.jsonl")
    assert "then questions and answers of its owner's choice" in card(Project(grown), 1, exam, "")
    assert "Whether other people wrote in your files" in pushed(grown).stdout
    decide(grown, world="", data="owner/texts:part")  # and beside what is the hub's
    shown = card(Project(grown), 1, exam, "")
    assert "on owner/texts, then questions and answers of its owner's choice" in shown
    shown = pushed(grown).stdout
    assert "owner/texts is other people's" in shown and "in your files" in shown


def test_what_the_owner_wrote_stays(grown, capsys):
    """Pages are written again after each exam. What their owner added below stays in them; a page
    whose other lines were changed stays as it is, and the new one is beside it, by name. README.md
    is committed before, so git has what was changed in its figures.
    """
    project, words = Project(grown), Words(Project(grown), "share")
    readme, model_card = pages = [grown / "README.md", grown / "out" / "model" / "README.md"]

    def share():
        known = Pages(project, Screen(yes=True))
        write_pages(project, words, known, grown / "out" / "model", 1234)
        note = {"checks": [], "values": {"pages": known.known}}
        (grown / "out" / "steps" / "share.json").write_text(json.dumps(note))

    share()
    for file in pages:
        file.write_text(file.read_text() + "\nIt likes rain.\n\n## Limits\n\nMany.\n")
    share(), share()
    for file in pages:
        text = file.read_text()
        assert text.count("It likes rain.") == text.count("## Limits\n\nMany.") == 1
        assert text.count("## What was chosen and measured") == 1
    assert "by hand" not in capsys.readouterr().out
    changed = model_card.read_text().replace("A small language model", "My first language model")
    changed = re.sub("# CHOOSE A LICENCE.*\n.*\n", "license: apache-2.0\n", changed)
    model_card.write_text(changed)
    readme.write_text(readme.read_text().replace("| chosen | why |", "| chosen | my why |"))
    choose(project, Screen(yes=True), model_card)
    share()
    assert model_card.read_text() == changed and project.settings["license"] == "apache-2.0"
    assert "license: apache-2.0" in (grown / "out" / "README.md.new").read_text()
    assert "out/model/README.md was changed by hand" in capsys.readouterr().out
    log = ["git", "log", "--format=%s", "-S", "my why", "--", "README.md"]
    found = subprocess.run(log, cwd=grown, capture_output=True, text=True).stdout
    assert "README as it was" in found
    readme.unlink()
    share()
    assert readme.read_text().count("## What was chosen and measured") == 1


def test_a_person_is_asked_for_what_only_they_know(grown):
    """On a terminal, licence and language are asked for once, and kept; Enter leaves them open."""
    decide(grown, world="")
    code = (
        "import sys; from handrail.project.project import Project; from handrail.steps.card import "
        "choose; from handrail.project.screen import Screen; from pathlib import Path; "
        "choose(Project(sys.argv[1]), Screen(), Path('none'))"
    )
    for typed in (["", "de"], ["CC-BY-4.0"], []):
        child = pexpect.spawn(sys.executable, ["-c", code, str(grown)], timeout=60)
        for words in typed:
            child.expect(":")  # a question
            child.sendline(words)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0, child.before
    settings = Project(grown).settings
    assert (settings["license"], settings["language"]) == ("cc-by-4.0", "de")


def test_bad_names_are_refused_before_anything_is_written(grown):
    """An unknown licence, a name that is none of the hub's: near ones or an example, exit 2."""
    before = made(grown)
    cases = {
        ("--license", "apache2"): "apache-2.0",
        ("--license", ""): "Nothing is typed after --license",
        ("--language", "german"): "such as en, de or zh",
        ("--push", "my model"): "--push maria/first-model",
        ("--push", "maria/first--model"): "--push maria/first-model",
        ("--push", "first-model"): "--push maria/first-model",
    }
    for words, said in cases.items():
        done = handrail("share", grown, "--cpu", "--yes", *words)
        assert done.returncode == 2 and said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert made(grown) == before


def test_a_model_newer_than_the_exam_is_not_shared(grown):
    """After dpo, chat.py talks to the new model. An export of the one before it, with its figures,
    would be taken for it.
    """
    shutil.copy(HOUSE / "handrail" / "program" / "dpo.py", grown)
    for folder in ("model", "checkpoints"):
        (grown / "out" / "dpo" / folder).mkdir(parents=True)
    (grown / "out" / "dpo" / "model" / "config.json").write_text("{}")
    done = handrail("share", grown, "--cpu", "--yes")
    assert done.returncode == 2 and "The newest model is out/dpo/model" in done.stderr, done.stderr
    assert "First: handrail answers" in done.stderr and not (grown / "out" / "gguf").exists()


def test_a_model_that_answers_is_shared_after_its_exam(grown):
    """Once there is a fine-tuned model, share waits for its exam: an agent that asks what can come
    now is not sent to a step that refuses.
    """
    assert "share" in {coming["step"] for coming in status(grown)["later"]}
    (grown / "out" / "finetune" / "model").mkdir(parents=True)
    (grown / "out" / "finetune" / "model" / "config.json").write_text("{}")
    assert "share" in {coming["step"] for coming in status(grown)["later"]}  # it was undone
    (grown / "out" / "steps" / "finetune.json").write_text('{"checks": []}')
    assert "share" not in {coming["step"] for coming in status(grown)["later"]}
    done = handrail("share", grown, "--cpu", "--yes")
    assert done.returncode == 2 and "First: handrail examples" in done.stderr, done.stderr


def pushed(folder, *words, **settings):
    """Return what `push` says in a process of its own, without a terminal."""
    decide(folder, **settings)
    code = (
        "import sys; from handrail.project.project import Project, Stop\n"
        "from handrail.project.screen import Screen; from handrail.steps.share import push\n"
        "try: push(Project(sys.argv[1]), Screen('--yes' in sys.argv), 'me/it')\n"
        "except Stop as stop: sys.exit(str(stop))"
    )
    away = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_x"}
    command = [sys.executable, "-c", code, folder, *words]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | away)


def test_nothing_is_uploaded_without_a_yes(grown):
    """An upload cannot be taken back. What is in the data, and the command, come before the
    question; away from a terminal, the answer is no. A hub that is not there is named.
    """
    (grown / "out" / "gguf").mkdir()
    done = pushed(grown, me="Maria", base="owner/model", world="")
    assert done.returncode == 1 and "Nothing was uploaded" in done.stderr, done.stderr
    for said in ("a chat with Maria", "began as owner/model", "No licence is chosen"):
        assert said in done.stdout, done.stdout
    for folder in ("out/model", "out/gguf"):
        assert f"hf upload --private me/it {folder} ." in done.stdout
    assert "made up by handrail" in pushed(grown, world="village").stdout
    done = pushed(grown, "--yes")
    assert done.returncode == 1 and "The upload to me/it failed: ConnectError" in done.stderr
    assert "\nUploaded" not in done.stdout and "Traceback" not in done.stderr, done.stderr
