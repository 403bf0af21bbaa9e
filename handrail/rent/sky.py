"""SkyPilot, for those who use it: one short task file in the project. It finds the cheapest cloud, and ends the bill by itself.

handrail rent sky my-model          writes my-model/sky.yaml and .skyignore, and says what to type
"""

import argparse
import re
from pathlib import Path

from handrail.project import Stop
from handrail.rent.jobs import choose
from handrail.rent.luggage import MADE, chosen, opened, put, slug, travels

TASK = """# {why}
name: {name}
resources:
  accelerators: {gpu}:1
  disk_size: 100
  autostop:
    idle_minutes: 60  # after the run: an hour to fetch the model
    down: true  # then the machine is given back, not only stopped: a stopped one still costs
workdir: .
# Where the cloud has buckets (not RunPod, not Vast), keep the checkpoints in one, safe from a machine that is taken back:
# file_mounts: {{/kept: {{name: {name}-kept, mode: MOUNT}}}}   and below: ~/venv/bin/python sync.py /kept {script}.py
setup: |
  python3 -m venv ~/venv
  ~/venv/bin/pip install -q -r requirements.txt
run: |
  ~/venv/bin/python {script}.py
"""
IGNORE = "# what does not travel: history, the data itself (its tokens do), and what an earlier run left\n.git\n__pycache__\n.venv\n.env\n"
TYPE = """
In a terminal of its own (SkyPilot brings a hundred packages, so it is kept apart), from {folder}:
  python3 -m venv ~/sky && ~/sky/bin/pip install 'skypilot[all]' && ~/sky/bin/sky check     once
  ~/sky/bin/sky launch -c {name} sky.yaml            shows the machine and its price, and asks
  ~/sky/bin/sky logs {name}                          follow it; you may close this machine
  rsync -ab --suffix=.before {name}:sky_workdir/out/ out/     bring the model home: within an hour after the run, then it is gone
  ~/sky/bin/sky down {name}                          give it back at once; `sky status` shows what still costs"""


def main(words):
    """Run `handrail rent sky`; return the exit code."""
    p = argparse.ArgumentParser("handrail rent sky", description=__doc__.split("\n")[0])
    p.add_argument(
        "folder",
        nargs="?",
        default="." if Path("settings.toml").exists() else "first-model",
        help="the project",
    )
    p.add_argument("--script", help="pretrain or finetune")
    p.add_argument(
        "--gpu",
        help="its name at SkyPilot, such as L4, A100, H100; default: the cheapest that fits",
    )
    options = p.parse_args(words)
    project = opened(options.folder)
    name = chosen(project, options.script)
    travels(project, name)
    gpu = (options.gpu or choose(project, name, None, 1.0)[2]).replace(" ", "")
    if not re.fullmatch(r"[A-Za-z0-9.-]+", gpu):
        raise Stop(
            f"--gpu {options.gpu}: the name of one kind of GPU, as SkyPilot has it: L4, A100, RTX4090. Its list: sky gpus list"
        )
    why = f"One run of {name}.py on one {gpu}. sky launch -c {slug(project)} sky.yaml"
    put(project.folder / "sky.yaml", TASK.format(why=why, name=slug(project), gpu=gpu, script=name))
    project.add(["sync.py"])
    keep = {*MADE[name], "checkpoints" if name == "pretrain" else name}
    data = project.settings.get("data") or ""
    here = (
        [data]
        if data
        and (project.folder / data).exists()
        and (project.folder / data).resolve().is_relative_to(project.folder.resolve())
        else []
    )
    made = sorted(part.name for part in project.out.iterdir() if part.name not in keep)
    put(
        project.folder / ".skyignore",
        IGNORE + "".join(f"{line}\n" for line in [*here, *(f"out/{part}" for part in made)]),
    )
    print(
        f"Written: {project.folder / 'sky.yaml'}, .skyignore and sync.py. They are not in git, and "
        f"may be deleted once the model is home: cd {project.typed} && rm sky.yaml .skyignore sync.py"
        + TYPE.format(folder=project.folder, name=slug(project))
    )
    return 0
