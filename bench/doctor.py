"""Does the doctor find the mistakes, and is it quiet where there are none? What does it cost?

    python bench/doctor.py                     every script of bench/corpus/pairs, healthy and broken, under `handrail watch`; 30 minutes
    python bench/doctor.py --only 06 21        some of them
    python bench/doctor.py --line              the same scripts with a Doctor put in by hand: Doctor(model, ...) or add_callback; 25 minutes
    python bench/doctor.py --lessons           every patch of handrail/doctor/faults, on the learner's own program; 40 minutes
    python bench/doctor.py --walk              the same patches in a learner's project: which step of the walk says what; 60 minutes
    python bench/doctor.py --peers             what Transformers, TRL, PEFT and PyTorch say by themselves about the broken scripts; 15 minutes
    python bench/doctor.py --healthy           runs in which nothing is wrong (bench/corpus/healthy); 6 minutes
    python bench/doctor.py --reader            what readers wrote against the doctor (bench/corpus/*_reader), healthy and broken; 55 minutes
    python bench/doctor.py --cost              step time and memory with and without it, eager and compiled

After each run the files it left are looked at as well (`handrail doctor`): the column "shelf".
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path

from handrail.doctor import lesson, shelf
from handrail.doctor.findings import in_order
from handrail.doctor.watch import read_findings, watch
from handrail.project import Project

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
NAMES = {fault.number: name for name, fault in lesson.faults().items()}


def words_of(script):
    """Return the command that a script's second line asks for, else python."""
    line = script.read_text().splitlines()[1]
    return (
        [word for word in line[7:].split() if not word.endswith(".py")]
        if line.startswith("# run: ")
        else [sys.executable]
    )


def found_in(script, broken):
    """Return (findings of watch, findings in the files left behind) of one run."""
    with tempfile.TemporaryDirectory() as out:
        env = {"BROKEN": str(int(broken)), "OUT": out, "OMP_NUM_THREADS": "1"}
        _, seen, _, left_out, _ = watch(
            [*words_of(script), str(script)], cwd=script.parent, capture=True, env=env
        )
        for reason in left_out:
            if (
                "failed" in reason
            ):  # a probe that is switched off finds nothing, and raises no alarm either
                print(f"{script.stem}: {reason}", flush=True)
        left = [
            finding
            for folder in [Path(out), *Path(out).iterdir()]
            if folder.is_dir()
            for finding in shelf.look(folder)
        ]
    return in_order(seen), left


HEAD = (
    "import json, os\nfrom dataclasses import asdict\nfrom handrail import Doctor\nDOCTORS = []\n"
)
FOOT = """
for doctor in DOCTORS:
    doctor.close()
    seen = {"updates": doctor.updates, "left_out": doctor.left_out, "findings": [asdict(found) for found in doctor.findings]}
    with open(os.path.join(os.environ["FOUND"], f"findings-{doctor.rank}-{os.getpid()}-{id(doctor)}.json"), "w") as file:
        json.dump(seen, file)
"""


def with_a_line(text):
    """Return a script as somebody would change it who adds the doctor by hand: after the optimizer is made, or before trainer.train()."""
    tokenizer = next(
        (f", tokenizer={name}" for name in re.findall(r"^(tok|tokenizer) = ", text, re.M)), ""
    )
    text = re.sub(
        r"^( *)(optimizer|opt) = (torch\.optim\..*\))$",
        rf"\g<0>\n\1doctor = Doctor(model, optimizer=\2{tokenizer})\n\1DOCTORS.append(doctor)",
        text,
        flags=re.M,
    )
    text = re.sub(
        r"^( *)(\w+ = )?(\w*trainer\b(?:\(.*?\))?)\.train\((.*)\)$",
        rf"\1watched, callback = \3, Doctor.callback({tokenizer[12:]})\n\1watched.add_callback(callback)\n\1DOCTORS.append(callback.doctor)\n\1\2watched.train(\4)",
        text,
        flags=re.M,
    )
    return HEAD + text + FOOT


def found_by_line(script, broken):
    """Return (findings, none in files) of one run of a script that holds the doctor itself."""
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryDirectory() as found:
        (Path(found) / script.name).write_text(with_a_line(script.read_text()))
        paths = os.pathsep.join([str(script.parent), str(HERE.parent)])
        env = os.environ | {
            "BROKEN": str(int(broken)),
            "OUT": out,
            "OMP_NUM_THREADS": "1",
            "FOUND": found,
            "PYTHONPATH": paths,
        }
        done = subprocess.run(
            [*words_of(script), str(Path(found) / script.name)],
            cwd=script.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
        )
        if done.returncode and not broken:
            print(f"{script.stem}: exit code {done.returncode}: {done.stdout[-300:]}", flush=True)
        return in_order(read_findings(found)[0]), []


def said(findings):
    return (
        ", ".join(f"{f.name} ({f.level[0]}{f', {f.update}' if f.update else ''})" for f in findings)
        or "-"
    )


def exam(only, look):
    """Run the scripts, look(script, broken) at each; print a line each and the counts."""
    counts = dict.fromkeys(("runs", "found", "first", "early", "alarms"), 0)
    print(
        "| fault | script | broken (level, update) | shelf, broken | healthy |\n|---|---|---|---|---|"
    )
    for script in sorted((CORPUS / "pairs").glob("[0-9]*.py")):
        if only and script.name[:2] not in only:
            continue
        name = NAMES[int(script.name[:2])]
        (seen, left), (calm, calm_left) = look(script, True), look(script, False)
        new = [finding for finding in seen if finding.name not in {other.name for other in calm}]
        counts["runs"] += 1
        counts["found"] += any(f.name == name for f in new + left)
        counts["first"] += bool(new or left) and (new + left)[0].name == name
        counts["early"] += any(f.name == name and f.update < 50 for f in new + left)
        counts["alarms"] += bool(calm) or bool(calm_left)
        print(
            f"| {name} | {script.stem} | {said(new)} | {said(left)} | {said(calm + calm_left)} |",
            flush=True,
        )
    print(
        f"\n{counts['runs']} scripts: named in {counts['found']}, first in {counts['first']}, before update 50 in {counts['early']}; healthy ones with an alarm: {counts['alarms']}"
    )


def lessons(only):
    """Run every lesson; print a line each."""
    from handrail.screen import Screen

    class Quiet(Screen):
        def __init__(self):
            super().__init__(True)
            self.console.quiet = True

    print("| fault | named | what was found in the broken run | update |\n|---|---|---|---|")
    named = total = 0
    for name, fault in lesson.faults().items():
        if only and f"{fault.number:02}" not in only or "diff --git" not in fault.diff:
            continue
        with tempfile.TemporaryDirectory() as folder:
            lesson.prepare(fault, None, Path(folder), lambda text: None)
            calm, broken = (
                lesson.run(fault, Path(folder) / side)[1] for side in ("healthy", "broken")
            )
        new = [finding for finding in broken if finding.name not in {other.name for other in calm}]
        mine = next((finding for finding in new if finding.name == name), None)
        named, total = named + bool(mine), total + 1
        print(
            f"| {name} | {'yes' if mine else 'no'} | {said(new)}{' · healthy: ' + said(calm) if calm else ''} | {mine.update if mine else ''} |",
            flush=True,
        )
    print(f"\n{total} lessons, {named} named")


def grown(folder):
    """Make a short walk with all that can come after it, by the commands that a learner types."""
    for words, settings in (
        (["--updates", "80", "--batch", "8"], {"finetune.updates": 40, "finetune.context": 512}),
        (["finetune"], {"grpo.updates": 4}),
        (["grpo"], {}),
    ):
        walk_on(folder, words)
        project = Project(folder, cpu=True)
        for name, value in settings.items():
            project.decide(name, value, "short")


def walk_on(folder, words):
    step = words[:1] if words and not words[0].startswith("-") else []
    return subprocess.run(
        [
            Path(sys.executable).with_name("handrail"),
            *(step or ["new"]),
            folder,
            *words[len(step) :],
            "--cpu",
            "--yes",
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )


def put_in(fault, folder):
    """Apply a fault to a project; one in settings.toml line by line, for a learner's settings are not those of the patch."""
    if "b/settings.toml" not in fault.diff:
        return lesson.apply(fault, folder)
    settings, _, rest = fault.diff.partition("diff --git a/settings.toml")[2].partition(
        "diff --git"
    )
    for line in re.findall(r"^\+(\S+ = .*)$", settings, re.M):
        name, value = line.split(" = ", 1)
        Project(folder, cpu=True).decide(name, tomllib.loads(f"x = {value}")["x"], "a mistake")
    others = replace(
        fault,
        diff=fault.diff.partition("diff --git a/settings.toml")[0]
        + ("diff --git" + rest if rest else ""),
    )
    return lesson.apply(others, folder)


def complaints(folder):
    """Return {(step, check): (verdict, measured)} of what did not pass in a project's walk."""
    lines = map(json.loads, (folder / "out" / "checks.jsonl").read_text().splitlines())
    return {
        (line["step_name"], line["check"]): (line["verdict"], line["measured"])
        for line in lines
        if line["verdict"] != "pass"
    }


def in_the_walk(only):
    """Put every patch into a walked project and walk on; print what the walk says that it did not say before."""
    print(
        "| fault | named | the walk stopped with | what it said: step, check, verdict |\n|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place, "whole")
        grown(whole)
        before = complaints(whole)
        for name, fault in lesson.faults().items():
            if only and f"{fault.number:02}" not in only or "diff --git" not in fault.diff:
                continue
            folder = Path(shutil.copytree(whole, Path(place, name), symlinks=True))
            (folder / "out" / "checks.jsonl").write_text("")
            fits, files = put_in(fault, folder), re.findall(r"^\+\+\+ b/(\S+)", fault.diff, re.M)
            later = {"finetune.py", "packing.py", "messages.py", "answers.py"} & set(
                files
            ) or "finetune" in fault.head["Run"]
            for left in (
                ["finetune"] if later and "grpo.py" not in files else ["model", "checkpoints"]
            ):  # what an earlier run left hides what this one does not
                shutil.rmtree(folder / "out" / left)
            words = [["grpo"]] if "grpo.py" in files else [["finetune"]] if later else [[]]
            ended = [
                walk_on(folder, step)
                for step in words + [["share"]] * (fault.head["Step"] == "share")
            ]
            said = {key: value for key, value in complaints(folder).items() if key not in before}
            codes, refused = (
                [done.returncode for done in ended],
                [
                    done.stderr.strip()[:160].replace("\n", " ")
                    for done in ended
                    if done.returncode == 2
                ],
            )
            words = "; ".join(
                f"{step}: {check} ({verdict}, {measured})"
                for (step, check), (verdict, measured) in said.items()
            )
            print(
                f"| {name} | {'yes' if f'the doctor: {name}' in {check for _, check in said} else 'no'} | {max(codes)} | {words or '-'} {' '.join(refused)}{'' if fits else ' (the patch does not fit)'} |",
                flush=True,
            )
            shutil.rmtree(folder)


def remarks(script, broken):
    """Return what the libraries print on the error stream of a run without the doctor, a line each, numbers taken out."""
    with tempfile.TemporaryDirectory() as out:
        env = os.environ | {
            "BROKEN": str(int(broken)),
            "OUT": out,
            "OMP_NUM_THREADS": "1",
            "TRANSFORMERS_VERBOSITY": "warning",
        }
        done = subprocess.run(
            [*words_of(script), str(script)],
            cwd=script.parent,
            capture_output=True,
            text=True,
            env=env,
        )
    lines = [
        line.strip()
        for line in done.stderr.splitlines()
        if "%|" not in line and len(line.strip()) > 20
    ]  # no progress bars
    return {re.sub(r"[0-9.e+-]*[0-9][0-9.e+-]*", "N", line): line for line in lines}


def peers(only):
    """Print what the libraries say about each broken script that they do not say about the healthy one."""
    for script in sorted((CORPUS / "pairs").glob("[0-9]*.py")):
        if only and script.name[:2] not in only:
            continue
        calm, broken = (remarks(script, side) for side in (False, True))
        new = [line[:200] for plain, line in broken.items() if plain not in calm]
        print(f"{script.stem}: {' / '.join(new) or '-'}", flush=True)


def healthy(only):
    """Run what is healthy; every finding is a false alarm."""
    sys.path.insert(0, str(CORPUS / "healthy"))
    from healthy import RUNS

    runs = {
        run.__name__: [str(CORPUS / "healthy" / "healthy.py"), run.__name__] for run in RUNS
    } | {file.stem: [str(file)] for file in sorted((CORPUS / "first_reader").glob("h*.py"))}
    alarms = 0
    for name, words in runs.items():
        if only and name not in only:
            continue
        with tempfile.TemporaryDirectory() as out:
            code, seen, updates, left, printed = watch(
                [sys.executable, *words],
                cwd=out,
                capture=True,
                env={"OUT": out, "OMP_NUM_THREADS": "1"},
            )
        alarms += bool(seen)
        print(
            f"{name}: {said(seen)}, {updates} updates"
            + (f" (exit {code}) {printed[-800:]}" if code else "")
            + "".join(f"; {reason}" for reason in left),
            flush=True,
        )
    print(f"{len(runs)} runs, {alarms} with an alarm")


def written_against(place):
    """Yield (script, what should be named; "" for a healthy one, None where it is not named so far) of what readers wrote against the doctor."""
    subprocess.run(
        [sys.executable, CORPUS / "second_reader" / "mkdata.py"],
        cwd=place,
        check=True,
        capture_output=True,
    )
    for script in sorted((CORPUS / "second_reader").glob("[bh][0-9]*.py")):
        fault = script.name[0] == "b" and re.match(r"# fault (\d+)", script.read_text())
        yield script, NAMES[int(fault[1])] if fault else ""
    third, expected = (
        CORPUS / "third_reader",
        tomllib.loads((CORPUS / "third_reader" / "expected.toml").read_text()),
    )
    subprocess.run([sys.executable, third / "gen.py", place], check=True)
    shutil.copy(third / "corpus.py", place)
    Path(place, "work").mkdir()
    subprocess.run(
        [sys.executable, third / "make_base.py"], cwd=place, check=True, capture_output=True
    )
    for script in sorted(Path(place).glob("[bh]_*.py")):
        yield script, expected.get(script.stem, "" if script.name[0] == "h" else None)
    fifth = tomllib.loads((CORPUS / "fifth_reader" / "expected.toml").read_text())
    for script in sorted((CORPUS / "fifth_reader").glob("*.py")):
        yield script, fifth[script.stem].get("named", "" if script.name[0] == "h" else None)


def reader(only):
    """Run the scripts that readers wrote: the healthy ones should be quiet, what is broken in the others named."""
    counts = dict.fromkeys(("healthy", "alarms", "certain", "broken", "named", "first"), 0)
    with tempfile.TemporaryDirectory() as place:
        for script, name in written_against(place):
            if only and script.stem not in only:
                continue
            several = "_ddp" in script.stem or "# run: torchrun" in script.read_text()
            command = (
                [
                    Path(sys.executable).with_name("torchrun"),
                    "--standalone",
                    "--nproc_per_node",
                    "2",
                ]
                if several
                else [sys.executable]
            )
            code, seen, updates, left, printed = watch(
                [*map(str, command), str(script)],
                cwd=place,
                capture=True,
                env={"OMP_NUM_THREADS": "1"},
            )
            seen = in_order(seen)
            counts["healthy" if name == "" else "broken"] += 1
            counts["alarms"] += name == "" and bool(seen)
            counts["certain"] += name == "" and any(f.level == "certain" for f in seen)
            right = (
                {name, "rate-too-low"} if name == "rate-too-high" else {name}
            )  # fault 19 is both
            counts["named"] += name != "" and any(f.name in right for f in seen)
            counts["first"] += name != "" and bool(seen) and seen[0].name in right
            what = "healthy" if name == "" else name or "broken, not named so far"
            print(
                f"{script.stem}: {what}: {said(seen)}"
                + (f" (exit {code}) {printed[-300:]}" if code and not seen else "")
                + "".join(f"; {reason}" for reason in left),
                flush=True,
            )
    print(
        "{healthy} healthy, {alarms} with an alarm, {certain} with a certain one; {broken} broken, {named} named, {first} first of all".format(
            **counts
        )
    )


COST = """
import resource, statistics, sys, time, torch
from transformers import LlamaConfig, LlamaForCausalLM
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=1024, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4))
run = torch.compile(model) if "compiled" in sys.argv else model
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
data, clocks = torch.randint(0, 1024, (4096, 128)), []
for i in range(90):
    clock = time.perf_counter()
    batch = data[i * 32 % 4096 : i * 32 % 4096 + 32]
    loss = run(input_ids=batch, labels=batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    clocks.append(time.perf_counter() - clock)
weights = sum(p.double().sum().item() for p in model.parameters())
print("COST", statistics.median(clocks[10:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, repr(weights))
"""


def cost(rounds=3):
    """Print the step time after ten updates, peak memory and the sum of the weights, with the doctor over those without."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "plain.py")
        script.write_text(COST)
        for how in ("eager", "compiled"):
            times, memory, sums = [], [], set()
            for _ in range(rounds):
                alone = subprocess.run(
                    [sys.executable, script, how], capture_output=True, text=True
                ).stdout
                beside = watch([sys.executable, str(script), how], capture=True)[4]
                a, b = (
                    re.search(r"COST (\S+) (\S+) (\S+)", text).groups() for text in (alone, beside)
                )
                times.append(float(b[0]) / float(a[0]))
                memory.append(float(b[1]) / float(a[1]))
                sums |= {a[2], b[2]}
            print(
                f"{how}: step time × {statistics.median(times):.3f} ({min(times):.3f} to {max(times):.3f}), peak memory × {statistics.median(memory):.3f}, same weights: {len(sums) == 1}",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=[])
    ways = {
        "line": lambda only: exam(only, found_by_line),
        "lessons": lessons,
        "walk": in_the_walk,
        "healthy": healthy,
        "reader": reader,
        "peers": peers,
        "cost": lambda _: cost(),
    }
    for name in ways:
        parser.add_argument(f"--{name}", action="store_true")
    args = parser.parse_args()
    way = next(
        (way for name, way in ways.items() if getattr(args, name)),
        lambda only: exam(only, found_in),
    )
    way(args.only)


if __name__ == "__main__":
    main()
