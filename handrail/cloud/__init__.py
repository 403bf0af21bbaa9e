"""`handrail rent`: the long run on a bigger machine.

A new way is a command in a file of its own. Here are two that only fill in a template: a notebook,
and a task for SkyPilot.
"""

import shutil
from pathlib import Path
from string import Template

import click

from handrail.cloud.bundle import Run, folder_argument, script_option, words
from handrail.cloud.jobs import jobs
from handrail.cloud.ssh import ssh


@click.group(invoke_without_command=True)
@click.pass_context
def rent(here):
    """Do the long run on a bigger machine: four ways, each shown before it costs anything."""
    if not here.invoked_subcommand:
        print(words("ways"))


rent.add_command(jobs)
rent.add_command(ssh)


def fill(run, template, **values):
    """Pack what travels; write a template, its $names replaced, to out/; say what comes next."""
    run.pack()
    source = Path(__file__).with_name(template)
    text = Template(source.read_text(encoding="utf-8"))
    text = text.safe_substitute(name=run.name, script=run.script, **values)
    (run.project.out / f"{run.name}{source.suffix}").write_text(text, encoding="utf-8")
    print(words(source.stem, folder=run.project.folder, name=run.name))


@rent.command()
@folder_argument
@script_option
@click.option("--cpu", is_flag=True, help="Train on the CPU of the service: slow.")
def notebook(folder, script, cpu):
    """Write a notebook for a free GPU (Colab, Kaggle)."""
    run = Run(folder, script)
    fill(run, "notebook.ipynb", options="'--cpu'" if cpu else "")
    shutil.make_archive(str(run.project.out / run.name), "gztar", run.project.out / "bundle")


@rent.command()
@folder_argument
@script_option
def sky(folder, script):
    """Write a task file for SkyPilot."""
    fill(Run(folder, script), "sky.yaml")
