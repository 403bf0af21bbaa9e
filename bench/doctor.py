"""Does the doctor find the mistakes, and is it quiet where there are none? What does it cost?

    python bench/doctor.py              bench/corpus/pairs under `handrail watch`; 30 minutes
    python bench/doctor.py --only 06 21 some of them
    python bench/doctor.py --line       the same, a Doctor put in by hand; 25 minutes
    python bench/doctor.py --lessons    handrail/lessons/faults, as `handrail break`; 40 minutes
    python bench/doctor.py --walk       the same patches in a learner's project; 60 minutes
    python bench/doctor.py --peers      what the libraries say by themselves; 15 minutes
    python bench/doctor.py FOLDER       scripts with an expected.toml (see runs_in), as all folders
                                        of bench/corpus but pairs have; 60 minutes for all
    python bench/doctor.py --cost       step time and memory with and without it

Every script of pairs runs twice, healthy and broken. After each run the files it left are looked at
as well (`handrail doctor`): the column "files". --walk tells which step says what. --peers prints
what Transformers, TRL, PEFT and PyTorch say only of the broken scripts.
"""

import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path

from tables import head, options, row

from handrail.cli import look
from handrail.doctor.findings import in_order
from handrail.doctor.watch import read_findings, watch
from handrail.lessons import lessons
from handrail.project.project import Project

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
HANDRAIL, TORCHRUN = (
    str(Path(sys.executable).with_name(name)) for name in ("handrail", "torchrun")
)
FAULTS = lessons.faults()
NAMES = {fault.number: name for name, fault in FAULTS.items()}


def scripts(folder, only):
    """Return the scripts of pairs, or those that begin with one of the numbers in `only`."""
    found = sorted((CORPUS / folder).glob("[0-9]*.py"))
    return [script for script in found if not only or script.name[:2] in only]


def patches(only):
    """Return the faults that are patches, or those of them that `only` numbers."""
    found = {name: fault for name, fault in FAULTS.items() if "diff --git" in fault.diff}
    return {name: f for name, f in found.items() if not only or f"{f.number:02}" in only}


def words_of(script):
    """Return the command that a script's second line asks for, else python."""
    line = script.read_text().splitlines()[1]
    if not line.startswith("# run: "):
        return [sys.executable]
    return [word for word in line[7:].split() if not word.endswith(".py")]


def said(findings):
    """Return findings as a cell of a table."""
    cells = []
    for found in findings:
        cells.append(
            f"{found.name} ({found.level[0]}{f', {found.update}' if found.update else ''})"
        )
    return ", ".join(cells) or "-"


def without(findings, others):
    """Return the findings that have no namesake among others."""
    names = {other.name for other in others}
    return [finding for finding in findings if finding.name not in names]


def environment(broken, out):
    return {"BROKEN": str(int(broken)), "OUT": out, "OMP_NUM_THREADS": "1"}


def found_in(script, broken):
    """Return (findings of watch, findings in the files left behind) of one run."""
    with tempfile.TemporaryDirectory() as out:
        command, env = [*words_of(script), str(script)], environment(broken, out)
        _, seen, _, left_out, _ = watch(command, cwd=script.parent, capture=True, env=env)
        for reason in left_out:
            if "failed" in reason:  # a probe that is switched off raises no alarm either
                print(f"{script.stem}: {reason}", flush=True)
        folders = [folder for folder in [Path(out), *Path(out).iterdir()] if folder.is_dir()]
        left = [finding for folder in folders for finding in look(folder)]
        left = [finding for finding in left if finding.name != "data-not-read"]
    return in_order(seen), left


HEAD = """import json, os
from dataclasses import asdict
from handrail import Doctor
DOCTORS = []
"""
FOOT = """
for doctor in DOCTORS:
    doctor.close()
    seen = {"rank": doctor.rank, "updates": doctor.updates, "left_out": doctor.left_out}
    seen["findings"] = [asdict(found) for found in doctor.findings]
    name = f"findings-{doctor.rank}-{os.getpid()}-{id(doctor)}.json"
    with open(os.path.join(os.environ["FOUND"], name), "w") as file:
        json.dump(seen, file)
"""
LOOP = (  # after the optimizer is made
    r"^( *)(optimizer|opt) = (torch\.optim\..*\))$",
    r"\g<0>\n\1doctor = Doctor(model, optimizer=\2, tokenizer=TOKENIZER)"
    r"\n\1DOCTORS.append(doctor)",
)
TRAINER = (  # before trainer.train()
    r"^( *)(\w+ = )?(\w*trainer\b(?:\(.*?\))?)\.train\((.*)\)$",
    r"\1watched, callback = \3, Doctor.callback(TOKENIZER)\n\1watched.add_callback(callback)"
    r"\n\1DOCTORS.append(callback.doctor)\n\1\2watched.train(\4)",
)


def with_a_line(text):
    """Return a script as somebody would change it who adds the doctor by hand."""
    tokenizer = re.search(r"^(tok|tokenizer) = ", text, re.M)
    for pattern, changed in (LOOP, TRAINER):
        changed = changed.replace("TOKENIZER", tokenizer[1] if tokenizer else "None")
        text = re.sub(pattern, changed, text, flags=re.M)
    return HEAD + text + FOOT


def found_by_line(script, broken):
    """Return (findings, none in files) of one run of a script that holds the doctor itself."""
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryDirectory() as found:
        changed = Path(found) / script.name
        changed.write_text(with_a_line(script.read_text()))
        paths = os.pathsep.join([str(script.parent), str(HERE.parent)])
        env = os.environ | environment(broken, out) | {"FOUND": found, "PYTHONPATH": paths}
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": env}
        done = subprocess.run([*words_of(script), str(changed)], cwd=script.parent, **how)
        if done.returncode and not broken:
            print(f"{script.stem}: exit code {done.returncode}: {done.stdout[-300:]}", flush=True)
        return in_order(read_findings(found)[0]), []


def exam(only, look=found_in):
    """Run the scripts, look(script, broken) at each; print a line each and the counts."""
    counts = dict.fromkeys(("runs", "found", "first", "early", "alarms"), 0)
    head("fault", "script", "broken (level, update)", "files, broken", "healthy")
    for script in scripts("pairs", only):
        name = NAMES[int(script.name[:2])]
        (seen, left), (calm, calm_left) = look(script, True), look(script, False)
        new = without(seen, calm)
        mine = [finding for finding in new + left if finding.name == name]
        counts["runs"] += 1
        counts["found"] += bool(mine)
        counts["first"] += any(finding.name == name for finding in (new + left)[:1])
        counts["early"] += any(finding.update < 50 for finding in mine)
        counts["alarms"] += bool(calm or calm_left)
        row(name, script.stem, said(new), said(left), said(calm + calm_left))
    named = "named in {found}, first in {first}, before update 50 in {early}".format(**counts)
    print(f"\n{counts['runs']} scripts: {named}; healthy ones with an alarm: {counts['alarms']}")


def every_lesson(only):
    """Run every lesson; print a line each."""
    head("fault", "named", "what was found in the broken run", "update")
    total = named = 0
    for name, fault in patches(only).items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            lessons.prepare(fault, None, folder, lambda text: None)
            calm, broken = (lessons.run(fault, folder / side)[1] for side in ("healthy", "broken"))
        new = without(broken, calm)
        mine = [finding.update for finding in new if finding.name == name]
        total, named = total + 1, named + bool(mine)
        alarm = f" · healthy: {said(calm)}" if calm else ""
        row(name, "yes" if mine else "no", said(new) + alarm, *(mine[:1] or [""]))
    print(f"\n{total} lessons, {named} named")


def walk_on(folder, words):
    """Give the command that continues a project, or takes the step that `words` begin with."""
    step = words[:1] if words and not words[0].startswith("-") else []
    command = [HANDRAIL, *(step or ["new"]), folder, *words[len(step) :], "--cpu", "--yes"]
    env = os.environ | {"PYTHONPATH": str(HERE.parent)}
    how = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "env": env}
    return subprocess.run(command, **how)


def grown(folder):
    """Make a short walk with all that can come after it, by the commands that a learner types."""
    for words, settings in (
        (["--updates", "80", "--batch", "8"], {"finetune.updates": 40, "finetune.context": 512}),
        (["finetune"], {"grpo.updates": 4}),
        (["grpo"], {}),
    ):
        walk_on(folder, words)
        for name, value in settings.items():
            Project(folder, cpu=True).decide(name, value, "short")


def put_in(fault, folder):
    """Apply a fault to a project; return False if it does not fit.

    One in settings.toml goes in line by line: a learner's settings are not those of the patch.
    """
    mark, chosen = "diff --git", "diff --git a/settings.toml"
    before, found, after = fault.diff.partition(chosen)
    if not found:
        return lessons.apply(fault, folder)
    settings, more, rest = after.partition(mark)
    for line in re.findall(r"^\+(\S+ = .*)$", settings, re.M):
        name, value = line.split(" = ", 1)
        value = tomllib.loads(f"x = {value}")["x"]
        Project(folder, cpu=True).decide(name, value, "a mistake")
    return lessons.apply(replace(fault, diff=before + more + rest), folder)


def complaints(folder):
    """Return {(step, check): (verdict, measured)} of what did not pass in a project's walk."""
    lines = map(json.loads, (folder / "out" / "checks.jsonl").read_text().splitlines())
    return {
        (line["step_name"], line["check"]): (line["verdict"], line["measured"])
        for line in lines
        if line["verdict"] != "pass"
    }


def walked(fault, folder):
    """Put a fault into a walked project and walk on; return (does it fit, what ended)."""
    (folder / "out" / "checks.jsonl").write_text("")
    fits, files = put_in(fault, folder), set(re.findall(r"^\+\+\+ b/(\S+)", fault.diff, re.M))
    later = files & {"finetune.py", "packing.py", "messages.py", "answers.py"}
    if "grpo.py" in files:
        words = ["grpo"]
    elif later or "finetune" in fault.head["Run"]:
        words = ["finetune"]
    else:
        words = []
    for left in words or ["model", "checkpoints"]:  # an earlier run's hide what this one lacks
        shutil.rmtree(folder / "out" / left)
    share = [["share"]] if fault.head["Step"] == "share" else []
    return fits, [walk_on(folder, step) for step in [words, *share]]


def in_the_walk(only):
    """Put every patch into a walked project; print what the walk says that it did not before."""
    head("fault", "named", "the walk stopped with", "what it said: step, check, verdict")
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place, "whole")
        grown(whole)
        before = complaints(whole)
        for name, fault in patches(only).items():
            folder = Path(shutil.copytree(whole, Path(place, name), symlinks=True))
            fits, ended = walked(fault, folder)
            new = {key: found for key, found in complaints(folder).items() if key not in before}
            found = [f"{step}: {check} ({', '.join(new[step, check])})" for step, check in new]
            refused = [done.stderr.split() for done in ended if done.returncode == 2]
            words = [" ".join(words)[:160] for words in refused]
            words += [] if fits else ["(the patch does not fit)"]
            named = f"the doctor: {name}" in {check for _, check in new}
            code = max(done.returncode for done in ended)
            row(name, "yes" if named else "no", code, "; ".join(found) or "-", *words)
            shutil.rmtree(folder)


def remarks(script, broken):
    """Return what the libraries print on the error stream of a run without the doctor.

    As {line without its numbers: line}, progress bars left out.
    """
    with tempfile.TemporaryDirectory() as out:
        env = os.environ | environment(broken, out) | {"TRANSFORMERS_VERBOSITY": "warning"}
        how = {"cwd": script.parent, "capture_output": True, "text": True, "env": env}
        done = subprocess.run([*words_of(script), str(script)], **how)
    lines = [line.strip() for line in done.stderr.splitlines() if "%|" not in line]
    number = r"[0-9.e+-]*[0-9][0-9.e+-]*"
    return {re.sub(number, "N", line): line for line in lines if len(line) > 20}


def peers(only):
    """Print what the libraries say about each broken script, and not about the healthy one."""
    for script in scripts("pairs", only):
        calm, broken = (remarks(script, side) for side in (False, True))
        new = [line[:200] for plain, line in broken.items() if plain not in calm]
        print(f"{script.stem}: {' / '.join(new) or '-'}", flush=True)


def runs_in(folder, place, only):
    """Yield (name, command, where it runs, what should be named) of a folder of scripts.

    FOLDER/expected.toml has a table a run: `named` (what the doctor should say, "" for nothing),
    `run` (how it is started, else `python NAME.py`), `copy` (a folder in it to run in a copy of),
    `first` (shell lines that make it ready, there). `first` at the top of the file is for all.
    A script that it does not mention should raise nothing, or is not named yet if it begins with b.
    """
    expected = tomllib.loads((folder / "expected.toml").read_text())
    names = {"FOLDER": str(folder), "PATH": bin_first()}
    shell(expected.pop("first", []), place, names)
    scripts = {path.stem: path for path in [*folder.glob("*.py"), *place.glob("*.py")]}
    scripts = {name: path for name, path in scripts.items() if re.match("[bh]_?[0-9]", name)}
    for name in sorted(only or scripts | expected):
        table, where = expected.get(name, {}), place
        table = {"named": table} if isinstance(table, str) else table
        named = table.get("named", None if re.match("b_?[0-9]", name) else "")
        if "copy" in table:
            where = Path(shutil.copytree(folder / table["copy"], place / name, symlinks=True))
        shell(table.get("first", []), where, names)
        words = shlex.split(table["run"].replace("$FOLDER", str(folder))) if "run" in table else []
        yield name, words or [*starter(scripts[name]), str(scripts[name])], where, named


def starter(script):
    """Return the words that start a reader's script: two processes where it asks for them."""
    several = "_ddp" in script.stem or "# run: torchrun" in script.read_text()
    two = [TORCHRUN, "--standalone", "--nproc_per_node", "2"]
    return two if several else [sys.executable]


def shell(lines, where, names):
    for line in lines:
        subprocess.run(line, shell=True, cwd=where, env=os.environ | names, check=True)


def bin_first():
    """Return PATH with this Python's folder first: `python` is this one."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def strangers(folder, only):
    """Run a folder of scripts under `watch`: the healthy ones should be quiet, the others named."""
    counts = dict.fromkeys(("healthy", "alarms", "certain", "broken", "named", "first"), 0)
    head("script", "should say", "said", "updates", "exit", "not looked at")
    with tempfile.TemporaryDirectory() as place:
        for name, command, where, named in runs_in(folder.resolve(), Path(place), only):
            out = Path(place, "out", name)
            out.mkdir(parents=True)
            env = {"OMP_NUM_THREADS": "1", "OUT": str(out), "PATH": bin_first()}
            code, seen, updates, left, printed = watch(command, cwd=where, capture=True, env=env)
            seen = in_order(seen)
            should = "(not named yet)" if named is None else named or "-"
            row(name, should, said(seen), updates, code, "; ".join(left) or "-")
            if code and (named == "" or not seen):
                print(printed[-800:], flush=True)
            if named == "":
                for found in seen:
                    print(f"    {found.name}: {found.evidence}", flush=True)
                counts["healthy"] += 1
                counts["alarms"] += bool(seen)
                counts["certain"] += any(finding.level == "certain" for finding in seen)
                continue
            # a rate that is wrong is one fault, whichever way
            right = {named, "rate-too-low"} if named == "rate-too-high" else {named}
            counts["broken"] += 1
            counts["named"] += any(finding.name in right for finding in seen)
            counts["first"] += any(finding.name in right for finding in seen[:1])
    text = "\n{healthy} healthy, {alarms} with an alarm, {certain} with a certain one; "
    text += "{broken} broken, {named} named, {first} first of all"
    print(text.format(**counts))


COST = """
import resource, statistics, sys, time, torch
from transformers import LlamaConfig, LlamaForCausalLM
torch.manual_seed(0)
shape = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
model = LlamaForCausalLM(LlamaConfig(vocab_size=1024, intermediate_size=384, **shape))
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
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print("COST", statistics.median(clocks[10:]), memory, repr(weights))
"""


def cost_of(script, how, env):
    """Return [(time without, with), (memory ...), (sum of the weights ...)] of a pair of runs."""
    command = [sys.executable, str(script), how]
    alone = subprocess.run(command, capture_output=True, text=True, env=os.environ | env).stdout
    beside = watch(command, capture=True, env=env)[4]
    found = [re.search(r"COST (\S+) (\S+) (\S+)", text).groups() for text in (alone, beside)]
    return list(zip(*[map(float, numbers) for numbers in found], strict=True))


def cost(rounds=3):
    """Print step time, peak memory and sum of the weights, with the doctor over those without.

    What malloc keeps in reserve differs from run to run; with a map per block nothing is kept, and
    the peak is that of the tensors.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "plain.py")
        script.write_text(COST)
        for how in ("eager", "compiled"):
            pairs = [cost_of(script, how, {}) for _ in range(rounds)]
            mapped = cost_of(script, how, {"MALLOC_MMAP_THRESHOLD_": "65536"})
            times, memory = ([pair[i][1] / pair[i][0] for pair in pairs] for i in (0, 1))
            said = f"step time × {statistics.median(times):.3f} "
            said += f"({min(times):.3f} to {max(times):.3f}), "
            said += f"peak memory × {mapped[1][1] / mapped[1][0]:.3f}, with malloc's reserve × "
            said += f"{statistics.median(memory):.3f} ({min(memory):.3f} to {max(memory):.3f}), "
            same = len({total for pair in pairs for total in pair[2]}) == 1
            print(f"{how}: {said}same weights: {same}", flush=True)


def main():
    ways = {
        "line": lambda only: exam(only, found_by_line),
        "lessons": every_lesson,
        "walk": in_the_walk,
        "peers": peers,
        "cost": lambda _: cost(),
    }
    parser = options(__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    for name in ways:
        parser.add_argument(f"--{name}", action="store_true")
    args = parser.parse_args()
    if args.folder:
        return strangers(args.folder, args.only)
    way = next((way for name, way in ways.items() if getattr(args, name)), exam)
    way(args.only)


if __name__ == "__main__":
    main()
