"""A run has an identity: it resumes anywhere, and no other run continues from its checkpoints."""

import json
import shutil
import subprocess
import sys
from itertools import islice

import pytest
from conftest import HOUSE, decide, made, metrics, script

from handrail.data.village import stories

PROGRAM = HOUSE / "handrail" / "program"


def refused(project, name, *arguments, says):
    """Run a script that must refuse: exit 2, all of `says`, both ways out, nothing in out/ changed.

    Return what it said.
    """
    before = made(project / "out")
    done = script(project, name, *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stdout + done.stderr
    for part in [*says, "belongs to another run", "--out out/trial", "mkdir"]:
        assert part in done.stderr, (part, done.stderr)
    assert made(project / "out") == before
    return done.stderr


def follow(project, said):
    """Type the command that a refusal gives for moving the old run away."""
    command = next(line for line in said.splitlines() if "mkdir" in line).partition(": ")[2]
    subprocess.run(command, shell=True, cwd=project, check=True)


def test_more_updates_are_another_run(ran):
    """`--updates 20` after a finished run of 12 would train at a learning rate planned for
    something else: refused, with both numbers and two ways out, nothing changed. The second way,
    typed as it is printed, starts again and keeps the old run.
    """
    before = made(ran / "out")
    said = refused(
        ran, "pretrain.py", "--updates", "20", says=["updates: 12 there, 20 now", "learning rate"]
    )
    assert said.count("there,") == 1  # nothing else differs
    follow(ran, said)
    done = script(ran, "pretrain.py", "--updates", "4")
    assert done.returncode == 0 and "Resuming" not in done.stdout, done.stdout + done.stderr
    assert [line["step"] for line in metrics(ran)] == [1, 2, 3, 4]
    kept = {name.removeprefix("old-1/"): made_as for name, made_as in made(ran / "out").items()}
    for name in ("model/model.safetensors", "metrics.jsonl", "checkpoints/00000012/run.json"):
        assert (ran / "out" / "old-1" / name).read_bytes() == before[name][1], name
        assert kept[name]


@pytest.mark.parametrize("option", ["--lr", "--batch", "--context", "--seed"])
def test_each_setting_that_matters_makes_another_run(ran, option):
    """One typed number is enough to spoil a run that resumes: each is named with both values."""
    value = {"--lr": "0.001", "--batch": "8", "--context": "32", "--seed": "1"}[option]
    name = option.removeprefix("--")
    old = json.loads(next(ran.glob("out/checkpoints/*12/run.json")).read_text())[name]
    refused(ran, "pretrain.py", option, value, says=[f"{name}: {old} there, {value} now"])


def test_another_size_is_another_run(ran):
    """Another model in settings.toml must not destroy the trained one."""
    decide(ran, size="5m")
    refused(ran, "pretrain.py", says=["size: 1m there, 5m now"])


def test_a_checkpoint_that_does_not_say_whose_it_is_is_not_used(ran):
    """A checkpoint without run.json, copied together by hand or of an older program, could be any
    run's.
    """
    for file in ran.glob("out/checkpoints/*/run.json"):
        file.unlink()
    refused(ran, "pretrain.py", says=["updates: None there, 12 now"])


def test_a_trial_leaves_the_real_run_alone(ran):
    """`--out out/trial` is how people try things: the run, the exam and the talk happen there, and
    no byte of the real run changes.
    """
    before = made(ran / "out")
    for name, options in (("pretrain.py", ["--updates", "4"]), ("evaluate.py", [])):
        done = script(ran, name, *options, "--out", "out/trial")
        assert done.returncode == 0, done.stdout + done.stderr
    trial = ran / "out" / "trial"
    assert len((trial / "metrics.jsonl").read_text().splitlines()) == 4
    assert (trial / "checkpoints" / "00000004").is_dir()
    shown = json.loads((trial / "evaluation.json").read_text())
    talk = script(ran, "chat.py", "--out", "out/trial", input="One\n")
    assert talk.returncode == 0 and f"This is {trial / 'model'}." in talk.stdout, talk.stderr
    weights = trial / "model" / "model.safetensors"
    assert weights.read_bytes() != before["model/model.safetensors"][1]
    after = made(ran / "out")
    assert {name: after[name] for name in before} == before
    assert all(name.split("/")[0] == "trial" for name in after if name not in before)

    done = script(ran, "evaluate.py")  # the real model again
    assert done.returncode == 0
    real = json.loads((ran / "out" / "evaluation.json").read_text())
    assert real["model"] != shown["model"] and real["bigram"] == shown["bigram"]


def test_other_data_under_a_run_is_refused(ran):
    """Old weights that continue with the tokens of another tokenizer say nothing and learn nothing:
    pretrain refuses and names the data, and evaluate measures no model with a wrong tokenizer.
    """
    decide(ran, vocabulary=300)
    assert script(ran, "tokenizer.py").returncode == 0
    refused(ran, "pretrain.py", says=["data: train.bin"])
    done = script(ran, "evaluate.py")
    assert done.returncode == 2 and "another tokenizer" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_resumes_in_another_folder_and_with_other_conveniences(ran, tmp_path):
    """A run must finish on the machine that is free: copied elsewhere, with other memory, prompt
    and intervals, it is the same run and ends with the same weights.
    """
    moved = tmp_path / "elsewhere" / "my copy"
    subprocess.run(["mkdir", "-p", moved.parent], check=True)
    subprocess.run(["cp", "-r", ran, moved], check=True)
    trained = (ran / "out" / "model" / "model.safetensors").read_bytes()
    # compiled functions are made at the first update, and a finished run makes none
    decide(moved, rows_at_once=2, prompt="Mia", every=3, compile=True)
    done = script(moved, "pretrain.py")
    assert done.returncode == 0 and "Resuming after update 12." in done.stdout, done.stderr
    assert (moved / "out" / "model" / "model.safetensors").read_bytes() == trained

    shutil.rmtree(moved / "out" / "checkpoints" / "00000012")
    decide(moved, rows_at_once=0, prompt="Mia", every=2, compile=False)
    done = script(moved, "pretrain.py")
    assert done.returncode == 0 and "Resuming after update 8." in done.stdout, done.stderr
    assert (moved / "out" / "model" / "model.safetensors").read_bytes() == trained


def test_an_out_that_is_something_else_is_refused(ran, tmp_path):
    """A slip after --out must not write checkpoints over a file or into another project."""
    other = tmp_path / "other"
    (other / "out").mkdir(parents=True)
    (other / "settings.toml").write_text("")
    for out in ("settings.toml", str(other), str(other / "out"), "."):
        before = made(ran), made(other)
        for name in ("pretrain.py", "evaluate.py"):
            done = script(ran, name, "--out", out)
            assert done.returncode == 2, done.stdout + done.stderr
            assert len(done.stderr.strip().splitlines()) == 1 and "--out" in done.stderr
            assert "choose a new folder" in done.stderr
        assert (made(ran), made(other)) == before


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_fine_tuning_of_another_base_is_another_run(ran, method):
    """What was learned for one model's weights is noise for another's: after out/model was
    trained again, or with other examples or another method, a fine-tuning does not resume.
    """
    for file in PROGRAM.glob("*.py"):
        shutil.copy(file, ran)
    (ran / "out" / "chats").mkdir()
    for side, seed in (("train", 1), ("val", 2)):
        with open(ran / "out" / "chats" / f"{side}.jsonl", "w") as file:
            for story in islice(stories(seed), 12):
                asked = {"role": "user", "content": story["question"]}
                answer = {"role": "assistant", "content": story["short"]}
                file.write(json.dumps({"messages": [asked, answer]}) + "\n")
    chosen = {"model": "out/model", "method": method, "updates": 2, "batch": 4, "lr": 1e-3}
    with open(ran / "settings.toml", "a") as file:
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in chosen.items()]
        file.write("\n[finetune]\n" + "".join(lines))
    for said in ("", "Resuming after update 2."):
        done = script(ran, "finetune.py")
        assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr

    settings = (ran / "settings.toml").read_text()
    other = {"full": "lora", "lora": "full"}[method]
    (ran / "settings.toml").write_text(settings.replace(f'"{method}"', f'"{other}"'))
    refused(ran, "finetune.py", says=[f"method: {method} there, {other} now"])
    (ran / "settings.toml").write_text(settings)

    examples = ran / "out" / "chats" / "train.jsonl"
    text = examples.read_text()
    examples.write_text(text + text.splitlines(keepends=True)[0])
    refused(ran, "finetune.py", says=["data: train.jsonl"])
    examples.write_text(text)

    follow(ran, refused(ran, "pretrain.py", "--seed", "1", says=["seed: 0 there, 1 now"]))
    done = script(ran, "pretrain.py", "--seed", "1", "--updates", "4")
    assert done.returncode == 0, done.stderr
    said = refused(ran, "finetune.py", says=["base: "])
    assert said.count("there,") == 1


def test_what_a_run_left_is_kept_when_its_checkpoints_are_gone(ran):
    """Whoever deletes the checkpoints to save space, and starts again, keeps the old curve."""
    before = (ran / "out" / "metrics.jsonl").read_bytes()
    shutil.rmtree(ran / "out" / "checkpoints")
    assert script(ran, "pretrain.py").returncode == 0
    assert (ran / "out" / "metrics-before.jsonl").read_bytes() == before


def test_a_finished_run_says_so_and_does_not_become_the_newest(ran):
    """The same command after the end trains nothing and says so; chat.py keeps talking to the model
    that was trained last, not to the one that was written last.
    """
    shutil.copytree(ran / "out" / "model", ran / "out" / "finetune" / "model")
    (ran / "out" / "finetune" / "checkpoints").mkdir()
    shutil.copy(PROGRAM / "finetune.py", ran)  # whose folder of results that is
    done = script(ran, "pretrain.py")
    assert done.returncode == 0 and "It is finished: nothing is trained." in done.stdout
    code = "from chat import newest; from settings import OUT; print(newest(OUT))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ran, capture_output=True, text=True)
    assert said.stdout.strip() == str(ran / "out" / "finetune" / "model"), said.stderr


def test_tokens_are_in_one_place(ran):
    """`--out` is for runs: the tokens that other runs depend on are not rewritten by a trial."""
    before = (ran / "out" / "tokens" / "train.bin").read_bytes()
    done = script(ran, "tokenizer.py", "--out", "out/trial")
    assert done.returncode == 2 and "out/tokens" in done.stderr, done.stdout + done.stderr
    assert (ran / "out" / "tokens" / "train.bin").read_bytes() == before
