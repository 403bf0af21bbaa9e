"""handrail driven by a coding agent: one JSON object a command, the next step told before it is
taken, and the skill that teaches it. Also what is said before anything is trained.
"""

import json
import re
import shutil
import subprocess

import pexpect
import pytest
import torch
from conftest import BIN, HOUSE, handrail, made

from handrail import walk
from handrail.cli import cli
from handrail.data.village import pairs
from handrail.project.project import Project, Stop
from handrail.project.screen import Screen
from handrail.steps import LATER, WALK, should_i_train
from handrail.steps.dpo import judge_length
from handrail.steps.words import parts

SKILL = HOUSE / "skills" / "handrail" / "SKILL.md"
DAYS = [f"On day {day} the sea was {'rough' if day % 3 else 'calm'}." for day in range(900)]
TEXT = "\n\n".join(DAYS)


@pytest.fixture
def sea(tmp_path):
    """A folder with a small table of texts."""
    rows = [json.dumps({"text": text}) for text in DAYS]
    (tmp_path / "sea.jsonl").write_text("\n".join(rows))
    return tmp_path


def said(*words, code=0, **how):
    """Run a command with --json; return the one object that is on its standard output."""
    done = handrail(*words, "--json", **how)
    assert done.returncode == code, done.stdout + done.stderr[-2000:]
    found = json.loads(done.stdout)  # one object and nothing else
    assert found["exit"] == code and ("error" in found) == (code in (2, 130))
    return found


# --- one step at a time ---


def test_an_agent_takes_three_steps_and_knows_each_before_it_is_taken(sea):
    """What the skill promises: status describes the step to come and changes nothing, its command
    takes this step and no other, and each answer is one JSON object.
    """
    first = said("status", "mine", cwd=sea)["next"]
    assert first["step"] == "machine" and first["why"] and first["words"] and first["expect"]
    assert first["files"]["settings.py"]["lines"] and not (sea / "mine").exists()
    words = first["command"].replace("--data village", "--data sea.jsonl").split()[1:-1]
    assert said(*words, "--cpu", cwd=sea)["step"] == "machine"
    for name in ("data", "tokenizer"):
        before = made(sea)
        coming = said("status", "mine", cwd=sea)["next"]
        assert made(sea) == before and coming["step"] == name and coming["guess"]
        assert bool(coming["should_i_train"]) == (name == "data")
        _, *words, last, cpu = coming["command"].split()
        assert (last, cpu) == ("--json", "--cpu")
        taken = said(*words, cpu, cwd=sea)
        assert taken["step"] == name and taken["tells"] and taken["try"] and taken["commit"]
        for check in taken["checks"]:
            assert bool(check["meaning"]) == (check["verdict"] != "pass"), check
        assert set(taken["files"]) == set(coming["files"])
    assert said("status", "mine", cwd=sea)["next"]["step"] == "model"
    file = sea / "mine" / "data.py"
    line, chance = "return zlib.crc32(text.strip().encode()) % 20 == 0", "random() < 0.1"
    assert line in file.read_text()
    file.write_text(file.read_text().replace(line, f'return __import__("random").{chance}'))
    assert "overlap" in str(said("data", "mine", "--cpu", code=1, cwd=sea)["checks"])
    coming = said("status", "mine", cwd=sea)["next"]
    assert (coming["step"], coming["failed"][0]["name"]) == ("data", "train/val overlap")


def test_what_goes_wrong_is_one_object_too(tmp_path):
    """An agent that gets no JSON, or two objects, or a traceback can only guess: a step too early,
    a wrong option, missing data and a folder that is something else are each said in one object.
    """
    early = ["new", "early", "--data", "village", "--until", "machine", "--cpu"]
    assert said(*early, cwd=tmp_path)["step"] == "machine"

    def wrong(*words, says):
        found = said(*words, code=2, cwd=tmp_path)
        assert says in found["error"] and found.keys() == {"exit", "error"}, found

    wrong("model", "early", "--cpu", says="First: handrail data")
    wrong("model", "early", "--cpu", "--colour", says="--colour")
    wrong("modle", "early", says="Did you mean: handrail model")
    wrong("data", "nowhere", "--cpu", says="holds no project yet")
    wrong("new", "x", "--data", "no.txt", "--cpu", says="no.txt")
    (tmp_path / "photos").mkdir(), (tmp_path / "photos" / "cat.jpg").write_text("cat")
    wrong("status", "photos", says="Nothing was touched")
    if not torch.accelerator.is_available():
        wrong("new", "x", says="--cpu")
    (tmp_path / "early" / "data.py").write_text("import this_is_nowhere\n")
    wrong("data", "early", "--cpu", says="this_is_nowhere")
    wrong("estimate", "--from", "no/model", says="no/model")
    note = tmp_path / "early" / "out" / "steps" / "machine.json"
    note.write_text(note.read_text().replace('"pass"', '"fail"', 1))
    settings = (tmp_path / "early" / "settings.toml").read_text()
    wrong("data", "early", "--cpu", "--seed", "7", says="take it again: handrail machine")
    assert (tmp_path / "early" / "settings.toml").read_text() == settings
    assert not (tmp_path / "x").exists()


def test_an_agent_whose_time_is_up_still_gets_its_answer(walked, tmp_path):
    """Whoever starts a command with a time limit ends it by SIGTERM: also then standard output
    holds one JSON object, with the command that continues.
    """
    project = shutil.copytree(walked[0], tmp_path / "walked", symlinks=True)
    command = [BIN / "handrail", "lr", project, "--cpu", "--json"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **how) as running:
        assert any("A valley" in line for line in running.stderr)
        running.terminate()
        found = json.loads(running.stdout.read())
    assert found["exit"] == running.returncode == 130
    assert found["error"].startswith("Stopped. To continue: handrail lr ")


def test_status_describes_every_step_of_a_walk_and_changes_nothing(walked, tmp_path, monkeypatch):
    """An agent asks before each step, also before those that count and calculate to say what to
    expect; and when the walk is finished, it learns what can come now.
    """
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    project = shutil.copytree(walked[0], tmp_path / "walked", symlinks=True)
    whole = walk.status(project)
    assert whole["next"] is None and set(whole["steps"]) == {*WALK, *LATER}
    later = {coming["step"]: coming for coming in whole["later"]}
    assert later.keys() == {"inside", "examples", "share"}
    assert later["inside"]["command"].endswith(f"inside {project} --yes --json --cpu")
    assert later["examples"]["needs"] is None and "--license" in later["share"]["needs"]
    assert walk.needs(Project(tmp_path), "examples") == "--answers FILE"
    for name in reversed(WALK):
        (project / "out" / "steps" / f"{name}.json").unlink()
        before = made(project)
        coming = walk.status(project)["next"]
        assert made(project) == before, name
        assert coming["step"] == name and coming["why"] and coming["expect"], name
        assert all(file["lesson"] for file in coming["files"].values())
        assert not re.search(r"[{}]|None", " ".join(coming["words"] + coming["expect"])), coming
        if name == "pretrain":
            own = (project / "model.py").read_text()
            (project / "model.py").write_text(f"{own}\nboom\n")
            with pytest.raises(Stop, match="boom(.|\n)*You changed model.py"):
                walk.status(project)
            (project / "model.py").write_text(own)
    json.dumps(whole)


# --- should you train at all? ---

FEW = [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(40)]
PAIRS = [{"prompt": f"What is {n}?", "chosen": "One.", "rejected": "No."} for n in range(40)]
POINTS = {  # what is there, what was typed, and what that points to
    "a few texts": (TEXT, 'data = "it.txt"', "points to continuing"),
    "a library": (TEXT * 800, 'data = "it.txt"', "allows from scratch"),
    "a model": (TEXT, 'data = "it.txt"\nbase = "owner/small"', "You continue owner/small"),
    "the hub": (None, 'data = "owner/texts"', "not known yet"),
    "few answers": (FEW, 'answers = "it.jsonl"', "about 12 times"),
    "many answers": (FEW * 100, 'answers = "it.jsonl"', "how to answer, not each fact"),
    "preferences": (PAIRS, 'answers = "it.jsonl"', "point to preferences"),
    "broken": ("[", 'answers = "it.jsonl"', "not known yet"),
}


@pytest.mark.parametrize("case", POINTS)
def test_it_says_which_way_the_data_point_to(case, tmp_path, monkeypatch, capsys):
    """Advice that ignores what somebody has is read once and never again: it names their amount
    and their way, fits on a screen of 80 columns, and uses no word of a later step.
    """
    content, settings, says = POINTS[case]
    text = content if isinstance(content, str) else "\n".join(map(json.dumps, content or []))
    if content:
        (tmp_path / ("it.txt" if "it.txt" in settings else "it.jsonl")).write_text(text)
    (tmp_path / "settings.toml").write_text(settings + "\n")
    project, screen = Project(tmp_path), Screen(yes=True)
    screen.console.width = 80
    walk.show_advice(project, screen)
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if line.strip()]
    assert says in " ".join(shown.split()), shown
    assert len(lines) <= 25 and all(len(line) <= 80 or "`" in line for line in lines), shown
    points = {other for _, _, other in POINTS.values() if other in " ".join(shown.split())}
    assert points == {says}
    assert ("That fits into one prompt" in " ".join(shown.split())) == (
        case in ("a few texts", "a model")
    )
    known = [*WALK[1:], "examples", "finetune"]
    later = re.findall(
        r"^- \*\*(\w+)\*\*", "\n".join(parts(n).get("New words", "") for n in known), re.M
    )
    used = [word for word in later if re.search(rf"\b{word}s?\b", shown)]
    assert len(later) > 8 and not used, used


def test_it_is_shown_once_to_those_who_have_data(sea):
    """The built-in stories are there to learn with, so nobody asks there whether to train; with
    texts of one's own the screen comes before the first step that reads them, and not again.
    """
    (sea / "stories").mkdir(), (sea / "stories" / "settings.toml").write_text('data = "village"')
    stories = Project(sea / "stories")
    assert not walk.advised(stories, "data") and len(should_i_train.page(stories)) == 2
    new = ["new", "mine", "--data", "sea.jsonl", "--cpu", "--yes", "--until", "data"]
    shown = handrail(*new, cwd=sea).stdout
    assert shown.index("The machine ·") < shown.index("Should you train") < shown.index("Look at")
    assert "Should you" not in handrail("data", "mine", "--cpu", "--yes", cwd=sea).stdout
    new[1], terminal = "other", {"dimensions": (50, 80), "encoding": "utf-8", "timeout": 180}
    child = pexpect.spawn(str(BIN / "handrail"), [*new[:5], "--until", "data"], cwd=sea, **terminal)
    child.expect("Enter to add"), child.sendline("")
    child.expect("Enter to continue with what you asked for"), child.sendline("")
    child.expect("Look at the data"), child.expect("Your guess"), child.close(force=True)
    there = handrail("explain", "should-i-train", cwd=sea / "mine").stdout
    assert "points to continuing" in " ".join(there.split())
    nowhere = handrail("explain", "should-i-train", cwd=sea).stdout
    assert "Retrieval" in nowhere and "Your" not in nowhere


# --- preferences ---

UNEVEN = {  # pairs as (letters of the chosen, of the rejected)
    "longer": ([(200, 90)] * 90 + [(80, 90)] * 10, "warn", "learn to write more"),
    "shorter": ([(12, 90)] * 97 + [(95, 90)] * 3, "warn", "learn to write less"),
    "as often": ([(120, 90)] * 50 + [(60, 90)] * 50, "pass", None),
    "by a word": ([(93, 90)] * 100, "pass", None),
    "a handful": ([(120, 90)] * 5 + [(60, 90)] * 2, "pass", None),
}


@pytest.mark.parametrize("case", UNEVEN)
def test_pairs_that_teach_nothing_but_length_are_seen(case, tmp_path):
    """If the better answer is nearly always the longer one, the model learns to write more, and
    its loss looks excellent. It is said how often and by how much; chance gives no alarm.
    """
    letters, verdict, says = UNEVEN[case]
    (tmp_path / "settings.toml").write_text('answers = "qa.csv"\npairs = "pairs.jsonl"\n')
    rows = [{"chosen": "a" * better, "rejected": "a" * worse} for better, worse in letters]
    check = judge_length(Project(tmp_path), rows)
    assert check.verdict == verdict, check
    if says:
        assert says in check.meaning and "add pairs" in check.advice
        assert re.search(r"9[07]% (longer|shorter)", check.measured), check.measured


def test_the_built_in_pairs_prefer_short_answers_on_purpose(tmp_path):
    """There the short answer is the chosen one by design: that is expected, not a warning."""
    (tmp_path / "settings.toml").write_text('data = "village.jsonl"\nworld = "village"\n')
    check = judge_length(Project(tmp_path), pairs(200, 2))
    assert (check.verdict, check.expected) == ("pass", "never longer: on purpose"), check


# --- the skill ---


def test_the_skill_is_in_the_open_form_and_names_what_is_there(tmp_path):
    """An agent reads nothing but this file: its head is as the open form asks, and the commands,
    words and fields that it names are those that handrail has.
    """
    _, head, body = SKILL.read_text().split("---\n", 2)
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    assert fields["name"] == SKILL.parent.name and fields.keys() <= {
        "name",
        "description",
        "compatibility",
    }
    assert 50 < len(fields["description"]) <= 1024 and len(fields["compatibility"]) <= 500
    for word in re.findall(r"`handrail (\w+)", body):
        assert word in cli.commands, word
    status = walk.status(tmp_path / "new")
    named = status.keys() | status["next"].keys() | {"exit", "error", "later", "needs"}
    named |= {
        "lesson",
        "lines",
        "r",
        "checks",
        "answer",
        "tells",
        "samples",
        "try",
        "verdict",
        "meaning",
        "advice",
        "settings",
    }
    asked = re.findall(r"^\d\. .*|^`.*|^\*\*.*", body, re.M)
    used = set(re.findall(r"`([a-z_]+)`", "\n".join(asked))) - {
        *cli.commands,
        "handrail",
        "warn",
        "fail",
    }
    assert used <= named, used - named


def test_the_ten_questions_get_the_screens_that_are_shown(walked, tmp_path):
    """docs/questions.md is read by people who look for one screen: each of its commands gives that
    screen, other numbers aside, and each lesson that it names is there.
    """
    shutil.copytree(walked[0], tmp_path / "my-model", symlinks=True)
    text = (HOUSE / "docs" / "questions.md").read_text()
    screens = re.findall(r"^```\n\$ handrail (.+)\n((?:.*\n)*?)```$", text, re.M)
    assert len(screens) == 10
    for words, screen in screens:
        done = handrail(*words.split(), cwd=tmp_path)
        assert done.returncode < 2, done.stderr  # 1: what is estimated fits no GPU
        rest = without_numbers(done.stdout)
        for line in screen.splitlines():
            line = without_numbers(line)
            assert line == "..." or line in rest, f"handrail {words} does not say: {line}"
            rest = rest if line == "..." else rest.split(line, 1)[1]
    for name in re.findall(r"handrail break ([\w-]+)", text):
        assert (HOUSE / "handrail" / "lessons" / "faults" / f"{name}.patch").exists(), name


def without_numbers(text):
    return re.sub(r"\s+", " ", re.sub(r"\d[\d.,]*", "N", text)).strip()


def test_until_names_a_step_of_this_walk(tmp_path):
    """A step of the other walk is never reached: the whole walk would be taken, an hour of it."""
    folder = tmp_path / "mine"
    done = handrail("new", folder, "--cpu", "--yes", "--until", "examples")
    assert done.returncode == 2 and "this walk has no such step" in done.stderr, done.stderr
    assert not list((folder / "out" / "steps").glob("*.json"))
    steps = {"share": "share", "answers": "finetune", "model": ""}
    for step, command in steps.items():  # what continues after it was undone
        assert walk.again(Project(folder), step) == Project(folder).command(command)
