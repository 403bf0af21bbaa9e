"""Any rented machine that ssh reaches, by five commands that are shown and then run.

Copy the project there, start a job that outlives the connection, follow its log, copy the results
back. The same command, typed again, follows what is running, fetches what is over, and resumes the
rest. What happens on the other machine is in job.sh.
"""

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click

from handrail.cloud.bundle import Run, agree, folder_argument, script_option, words
from handrail.project.project import Stop

JOB = Path(__file__).with_name("job.sh")
OPTIONS = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15"]


class Machine:
    """A machine at the other end of ssh, and the folder that a run has there."""

    def __init__(self, typed, run):
        self.host, _, port = typed.partition(":")
        self.ssh = ["ssh", *(["-p", port] if port else []), *OPTIONS]
        self.run, self.folder = run, run.project.folder
        self.far = f"handrail/{run.name}"  # seen from its home folder

    def do(self, command, **how):
        """Run a command that uses ssh, in the project; return what it printed."""
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, **how)
        said = done.stderr.strip()
        if done.returncode == 255:
            by_hand = shown([*self.ssh, self.host])
            raise Stop(words("unreachable", machine=self, said=said, by_hand=by_hand))
        if done.returncode and command[0] == "rsync":
            raise Stop(f"Copying failed: {said}\nNothing is lost; the same command resumes.")
        return done.stdout

    def look(self, python, *options):
        """Return what is there now, as {name: value}."""
        asked = [self.far, str(self.run.home.relative_to(self.folder)), python, *options]
        command = [*self.ssh, self.host, f"sh -s look {shlex.join(asked)}"]
        lines = self.do(command, input=JOB.read_text()).splitlines()
        return dict(line.partition(" ")[::2] for line in lines)

    def there(self, *asked):
        """Return the command that runs a part of job.sh there."""
        return [*self.ssh, self.host, f"cd {self.far} && sh out/job.sh {shlex.join(asked)}"]

    def commands(self, job=(), newest="NEWEST"):
        """Return the five: a folder there, the project there, start, follow, the results back."""
        rsync = ["rsync", "-rtzu", "-e", shlex.join(self.ssh)]
        only = [f"--include=checkpoints/{newest}", "--exclude=checkpoints/*", "--exclude=*.lock"]
        return [
            [*self.ssh, self.host, f"mkdir -p {self.far}"],
            [*rsync, "-R", *self.run.parts, "out/job.sh", f"{self.host}:{self.far}/"],
            self.there("start", *job),
            self.there("follow"),
            [*rsync, "--delay-updates", *only, f"{self.host}:{self.far}/out/", "out/"],
        ]

    def start(self, now, options, yes):
        """Show the commands, and run the first three once a person, or --yes, agrees."""
        if "lacks" in now:
            raise Stop(f"{self.host} lacks {now['lacks']}")
        shutil.copy(JOB, self.run.project.out)
        commands = self.commands([now["mode"], now["python"], f"{self.run.script}.py", *options])
        lines = "\n".join(f"  {shown(command)}" for command in commands)
        print(words("start", machine=self, now=now, commands=lines))
        agree(yes)
        for command in commands[:3]:
            self.do(command, stdin=subprocess.DEVNULL)
        print("\nThe job is running. You may close this computer.\n", flush=True)

    def follow(self):
        """Show the job's log until it is over, through lost connections."""
        while subprocess.run(self.there("follow"), stdin=subprocess.DEVNULL).returncode == 255:
            print("[The connection is lost; the job continues. Trying again ...]", flush=True)
            time.sleep(3)

    def fetch(self, now):
        """Bring the results home, unless this computer is further in the same run."""
        here = Run(self.folder, self.run.script)  # hours may have passed
        if here.name != self.run.name:
            raise Stop(words("changed", machine=self))
        if int(now["step"] or 0) < here.step:
            print(f"Update {here.step} is here, {now['step'] or 0} there: nothing was fetched.")
        else:
            self.do(self.commands(newest=now["step"])[4])
        self.do([*self.ssh, self.host, f"touch {self.far}/job/fetched"])


def shown(command):
    """Return a command as it is shown: without the options that only make ssh fail early."""
    return shlex.join(command).replace(f" {shlex.join(OPTIONS)}", "")


@click.command()
@click.argument("host")
@folder_argument
@script_option
@click.option("--python", default="", help="A Python there with torch and the rest: no venv made.")
@click.option("--cpu", is_flag=True, help="Use the CPU there, knowing that it is slow.")
@click.option("--yes", is_flag=True, help="Start without asking.")
def ssh(host, folder, script, python, cpu, yes):
    """Train on any machine that ssh reaches; typed again, follow and fetch."""
    for tool in ("ssh", "rsync"):
        if not shutil.which(tool):
            raise Stop(words("no tool", tool=tool))
    options = ["--cpu"] if cpu else []
    machine = Machine(host, Run(folder, script))
    stop = shown(machine.there("stop", f"{machine.run.script}.py"))
    about = {"machine": machine, "stop": stop, "again": shlex.join(["handrail", *sys.argv[1:]])}
    try:
        now = machine.look(python, *options)
        if "state" not in now or "fetched" in now:
            machine.start(now, options, yes)
        machine.follow()
        now = machine.look(python, *options)
        machine.fetch(now)
        code = int(now.get("exit", -1))
        kind = code if code in (0, 2, 130) else 1
        walk = machine.run.project.command()
        print(f"\n{words(f'exit {kind}', code=code, walk=walk, **about)}")
        return kind
    except KeyboardInterrupt:
        print(f"\n{words('stopped here', **about)}")
        return 130
    finally:
        print(f"\n{words('money', **about)}", flush=True)
