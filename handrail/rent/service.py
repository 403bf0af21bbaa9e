"""A notebook service with a free GPU (Colab, Kaggle): one small notebook that sets up, trains, and gives the model back.

handrail rent notebook my-model      writes my-model.ipynb and my-model-rent.zip beside the project
"""

import argparse
import json
import shlex
import shutil
import tempfile
from pathlib import Path

from handrail.rent.luggage import chosen, opened, pack, put

TEXTS = [
    "# {name}\n\nThis trains your model on the GPU of a notebook service, with the same files as at home. Run the cells from top to bottom.\n\n"
    "Before you begin, choose a GPU. In Colab: *Runtime*, *Change runtime type*, *T4 GPU*. In Kaggle: *Session options*, *Accelerator*.",
    "**Unpack.** Upload `{name}-rent.zip` first, with the folder sign on the left; it lies beside this notebook at home.",
    "**Set up.** The same packages as at home; a minute or two.",
    "**Train.** The script you own. A free machine may be taken back: run this cell again and it goes on from its last checkpoint, as long as the machine is the same one.",
    "**Bring it home.** Download `{name}-back.zip`, unpack it in your project (`unzip {back} -d {quoted}`; say no where it would write over a model that you made at home meanwhile), then: `handrail new {quoted}`",
]
CELLS = [
    None,
    "import os, zipfile\nzipfile.ZipFile({name!r} + '-rent.zip').extractall({name!r})\nos.chdir({name!r})\nprint(sorted(os.listdir()))",
    "%pip install -q -r requirements.txt",
    "import subprocess, sys\ndone = subprocess.run([sys.executable, '{script}.py'{flags}])\nassert done.returncode == 0, 'it did not end well: read what it says above'",
    "import shutil\nshutil.make_archive('../' + {name!r} + '-back', 'zip', '.', 'out')\nprint({name!r} + '-back.zip is ready; its folder is out/')",
]


def notebook(name, script, flags):
    """Return the notebook as JSON: a text and a cell for each part."""
    cells = []
    for text, code in zip(TEXTS, CELLS):
        for kind, source in (("markdown", text), ("code", code)):
            if source:
                more = {"outputs": [], "execution_count": None} if kind == "code" else {}
                lines = source.format(
                    name=name,
                    script=script,
                    flags=flags,
                    quoted=shlex.quote(name),
                    back=shlex.quote(f"{name}-back.zip"),
                ).splitlines(keepends=True)
                cells.append(
                    {"cell_type": kind, "id": f"cell-{len(cells)}", "metadata": {}, "source": lines}
                    | more
                )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


def main(words):
    """Run `handrail rent notebook`; return the exit code."""
    p = argparse.ArgumentParser("handrail rent notebook", description=__doc__.split("\n")[0])
    p.add_argument(
        "folder",
        nargs="?",
        default="." if Path("settings.toml").exists() else "first-model",
        help="the project",
    )
    p.add_argument("--script", help="pretrain or finetune")
    p.add_argument(
        "--cpu",
        action="store_true",
        help="train on the CPU of the service, knowing that it is slow",
    )
    options = p.parse_args(words)
    project = opened(options.folder)
    script, name, place = (
        chosen(project, options.script),
        project.folder.name,
        project.folder.parent,
    )
    with tempfile.TemporaryDirectory() as folder:
        pack(project, script, folder)
        packed = Path(shutil.make_archive(str(place / f"{name}-rent"), "zip", folder))
    file = place / f"{name}.ipynb"
    put(file, json.dumps(notebook(name, script, ", '--cpu'" * options.cpu), indent=1))
    print(
        f"Written: {file} and {packed} ({packed.stat().st_size / 1e6:.1f} MB: the program, its settings, the tokens).\n"
        "Open the notebook at https://colab.research.google.com (File, Upload notebook) or https://www.kaggle.com/code, and follow it.\n"
        "It costs nothing, and may be taken back after some hours; the model comes home by hand, in its last cell.\n"
        f"Once it is home, both files may be deleted: rm {shlex.quote(str(file))} {shlex.quote(str(packed))}"
    )
    return 0
