"""What the steps that run a script of the project share: they run it as its owner would, with the doctor beside it."""

import json
import sys

from handrail.doctor.findings import in_order, report
from handrail.doctor.watch import watch
from handrail.lineage import home, lines, newest, of_another_run, whole
from handrail.project import Stop
from handrail.screen import check


def brought_home(screen, project, name, updates):
    """Return True for a whole run that this step did not make: on a rented machine, or by hand. It is judged, not made again."""
    folder = home(project, name)
    made = [line["step"] for line in lines(folder)] == list(range(1, updates + 1)) and (
        folder / "model" / "config.json"
    ).exists()
    here = (
        (folder / "run.json").exists()
        or (project.out / "steps" / f"{name}.json").exists()
        or of_another_run(project, name)
    )
    if made and not here:
        screen.print(
            "  The whole run lies here already, made elsewhere or by hand: it is judged, not made again.\n"
        )
    return made and not here


def make_room(screen, project, name, settings, updates):
    """Move what another run left out of the way: one of other settings, or one that is over, is not gone on from."""
    folder, other = home(project, name), of_another_run(project, name)
    if newest(folder / "checkpoints") and (other or whole(project, name, updates)):
        number = 1 + sum(1 for _ in folder.glob("checkpoints-*"))
        for path in (folder / "checkpoints", folder / "metrics.jsonl"):
            if path.exists():
                path.rename(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        screen.print(
            f"  An earlier run{' with other settings' if other else ''} is kept in {folder.name}/checkpoints-{number}; this one begins anew."
        )
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(settings))


def finish(project, script):
    """Run a script of the project to its end, as its owner would; return the checks of what the doctor saw. Raises Stop if the script failed."""
    code, findings, *_ = watch([sys.executable, script, *project.flags], cwd=project.folder)
    if code == 130:
        raise KeyboardInterrupt
    if code:
        said = f"\n\n{report(findings)}" if findings else ""
        raise Stop(
            f"{script} ended with exit code {code}; what it said stands above. What was saved is kept: the same command goes on from it.{said}"
        )
    return seen(findings)


def fell(metrics):
    """Return the check that the learning rate has come down at the end of a run."""
    last, highest = metrics[-1]["lr"], max(line["lr"] for line in metrics)
    return check(
        "learning rate at the end",
        f"a tenth of its highest, {highest:.2g}, or less",
        f"{last:.2g}",
        last <= highest / 10,
        "The run ended before its rate had fallen. The last stretch, where steps get small, often gains the most.",
        "make_schedule has to be given the updates of this run",
        "warn",
    )


def seen(findings):
    """Return what the doctor found as checks, one a finding; one that passes if there is none."""
    checks = []
    for found in in_order(findings):
        when = f"update {found.update}" if found.update else "before the first update"
        known = f" How it is known: {found.evidence}." * bool(found.evidence)
        checks.append(
            check(
                f"the doctor: {found.name}",
                "not there",
                f"{found.level}, {when}",
                False,
                f"{found.message}{known} Most likely: {found.causes[0][0]}.",
                f"{found.advice}. See it happen: handrail break {found.name}",
                otherwise={"certain": "fail", "warning": "warn"}[found.level],
            )
        )
    return checks or [check("the doctor (handrail watch)", "nothing found", "nothing found", True)]
