"""The model, opened: inside.py computes what the trained model computes, and refuses any other."""

import json
import shutil
import subprocess

import pytest
import torch
from conftest import HOUSE, handrail, script
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from handrail.project.project import Project

TRAP = ("(scores + mask).softmax", "scores.softmax")  # what the lesson says one can break


@pytest.fixture
def grown(walked, tmp_path):
    """A copy of the walked project, with its trained model."""
    return shutil.copytree(walked[0], tmp_path / "grown", symlinks=True)


@pytest.fixture
def opened(grown):
    """The copy with inside.py in it, and that file as a module."""
    shutil.copy(HOUSE / "handrail" / "program" / "inside.py", grown)
    return grown, Project(grown, cpu=True).load("inside", "batches")


@pytest.fixture(scope="session")
def grouped(tmp_path_factory):
    """The folder of a Qwen3 that differs from the walk's: a second table, three heads to each
    key and value head, heads wider than width / heads, other constants. It learned to count.
    """
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=40,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 700.0},
    )
    model = Qwen3ForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        rows = (torch.randint(40, (16, 1)) + torch.randint(1, 4, (16, 1)) * torch.arange(33)) % 40
        logits = model(rows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 1.5, "it has not learned"
    folder = tmp_path_factory.mktemp("grouped")
    model.save_pretrained(folder)
    return folder


def apart(inside, folder, ids):
    """Return how far the logits of inside.py are from those of Transformers.

    "eager" is its plain attention. The default, a fused kernel, rounds differently: up to 0.000012
    away from it in models of the walk, and from inside.py.
    """
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        return (inside.logits(folder, ids) - model.eval()(ids).logits).abs().max().item()


def test_the_logits_are_those_of_the_trained_model(opened):
    """With the weights that the walk trained, every logit of real val rows is Transformers' own."""
    folder, program = opened
    config = json.loads((folder / "out" / "model" / "config.json").read_text())
    assert config["tie_word_embeddings"]
    tokens = program.batches.load_tokens(folder / "out" / "tokens", "val")
    ids = torch.from_numpy(tokens[: 4 * 128].astype("int64")).view(4, 128)
    assert apart(program.inside, folder / "out" / "model", ids) < 1e-5


def test_the_logits_with_two_tables_and_shared_heads(opened, grouped):
    """Untied tables, shared key and value heads, other constants: Transformers' own logits too."""
    ids = (torch.arange(48) * torch.tensor([[1], [2], [3]])) % 40  # (3, 48)
    assert apart(opened[1].inside, grouped, ids) < 1e-5


def test_no_position_sees_a_later_one(opened, grouped):
    """Another token changes the logits from its position on, and none before it."""
    inside = opened[1].inside
    ids = torch.arange(24)[None] % 40
    other = ids.clone()
    other[0, 10] = 33
    moved = (inside.logits(grouped, ids) - inside.logits(grouped, other)).abs().amax(-1)[0]  # (T,)
    assert moved[:10].max() == 0 and moved[10:].min() > 0


def test_the_step_compares_and_commits(grown):
    """`handrail inside` after the walk adds and commits the file, and compares its logits."""
    done = handrail("inside", grown, "--cpu", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Layer 0, head 0" in done.stdout and (grown / "inside.py").exists()
    checks = json.loads((grown / "out" / "steps" / "inside.json").read_text())["checks"]
    assert [check["verdict"] for check in checks] == ["pass", "pass"], checks
    log = ["git", "log", "-1", "--format=%s", "--", "inside.py"]
    said = subprocess.run(log, cwd=grown, capture_output=True, text=True).stdout
    assert said.strip() == "Inside the model"


def test_the_step_notices_the_trap(opened):
    """An owner who deletes the mask is told what that did, with exit 1; the edit stays."""
    folder = opened[0]
    text = (folder / "inside.py").read_text()
    assert TRAP[0] in text
    (folder / "inside.py").write_text(text.replace(*TRAP))
    done = handrail("inside", folder, "--cpu", "--yes")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "A position sees what comes after it" in done.stdout
    assert TRAP[1] in (folder / "inside.py").read_text()


def test_the_step_waits_for_the_run(grown):
    """Without a trained model there is nothing to open: exit 2, and which step comes first."""
    (grown / "out" / "steps" / "pretrain.json").unlink()
    done = handrail("inside", grown, "--cpu", "--yes")
    assert done.returncode == 2 and "handrail pretrain" in done.stderr
    assert not (grown / "inside.py").exists()


def test_the_script_shows_the_next_token_and_the_attention(opened):
    """`python inside.py` shows five tokens, likeliest first, and a whole table on 80 columns."""
    done = script(opened[0], "inside.py")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    shares = [float(line.split("%")[0]) for line in lines if "%" in line]
    assert len(shares) == 5 and shares == sorted(shares, reverse=True) and sum(shares) <= 100.5
    head = next(i for i, line in enumerate(lines) if "head" in line)
    rows = [[int(cell) for cell in line[6:].split()] for line in lines[head + 2 :]]
    assert [len(row) for row in rows] == list(range(1, len(rows) + 1))  # nobody looks ahead
    assert all(abs(sum(row) - 100) <= len(row) / 2 for row in rows), rows


def test_another_architecture_is_refused(opened):
    """A model that is no Qwen3 gets exit 2 and a sentence that names it, never wrong numbers."""
    folder = opened[0]
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "out" / "model")
    for done in (script(folder, "inside.py"), handrail("inside", folder, "--cpu", "--yes")):
        assert done.returncode == 2, done.stdout + done.stderr
        said = done.stderr.strip()
        assert "llama" in said and "Qwen3" in said and "\n" not in said
