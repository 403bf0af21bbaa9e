"""The learner's run on several processes and several machines.

torchrun, gloo and the loopback replace GPUs and a network. Run as a script, this is the launcher
that cuts a model into pieces over gloo: torchrun --nproc_per_node 2 tests/test_processes.py --cpu
"""

import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
from conftest import BIN, decide, made, metrics, once, script, without_its_run
from transformers import AutoModelForCausalLM


def sharded():
    """Run ./pretrain.py under FSDP2 on the CPU, where Accelerate would take DDP in silence."""
    import accelerate
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    class Sharded(accelerate.Accelerator):
        def __init__(self, **how):
            super().__init__(**how)
            for state in (PartialState, AcceleratorState):
                state._shared_state["distributed_type"] = DistributedType.FSDP
            self.state.fsdp_plugin = FullyShardedDataParallelPlugin(
                fsdp_version=2, auto_wrap_policy="transformer_based_wrap"
            )

    accelerate.Accelerator = Sharded
    sys.path.insert(0, os.getcwd())
    runpy.run_path("pretrain.py", run_name="__main__")
    sys.stdout.flush()
    os._exit(0)  # FSDP over gloo is of this test only, and gloo's threads may abort at the exit


def launch(project, *how, name="pretrain.py"):
    """Start torchrun in a project, as its owner does."""
    log = open(project / "log.txt", "w")
    return subprocess.Popen(
        [BIN / "torchrun", *map(str, how), name, "--cpu"],
        cwd=project,
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def ended(process, project):
    """Wait for a launch; return its exit code and what it printed."""
    return process.wait(timeout=120), (project / "log.txt").read_text()


def on(processes, project, **how):
    """Run a project's script on several processes; return what it printed."""
    process = launch(project, "--standalone", "--nproc_per_node", processes, **how)
    code, said = ended(process, project)
    assert code == 0, said
    return said


def on_two_machines(projects):
    """Run two nodes, each in a folder of its own as on its own disk; return what came of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    how = ["--nnodes", 2, "--nproc_per_node", 1]
    how += ["--master_addr", "127.0.0.1", "--master_port", port, "--node_rank"]
    nodes = [launch(project, *how, rank) for rank, project in enumerate(projects)]
    return [ended(node, project) for node, project in zip(nodes, projects, strict=True)]


def losses_agree(one, other):
    """AdamW on other processes sums in another order: 1e-5 is the most that this makes of it."""
    for a, b in zip(metrics(one), metrics(other), strict=True):
        assert (a["step"], a["tokens"]) == (b["step"], b["tokens"])
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
        assert a.get("val_loss", 0) == pytest.approx(b.get("val_loss", 0), rel=1e-4)


def saved(project):
    """Return the numbers of the whole checkpoints, oldest first."""
    found = (project / "out" / "checkpoints").glob("0*")
    return sorted(int(path.name) for path in found if path.name.isdigit())


@pytest.fixture(scope="session")
def alone(walked, tmp_path_factory):
    """A project with AdamW, run on one process for twenty updates."""

    def make(folder):
        adamw = (
            "def make_optimizer(model, lr):\n"
            "    return torch.optim.AdamW(model.parameters(), lr)\n\n\n"
            "def muon_optimizer(model, lr):"
        )
        file = without_its_run(walked[0], folder) / "optimizer.py"
        file.write_text(file.read_text().replace("def make_optimizer(model, lr):", adamw))
        decide(folder, lr=1e-3, updates=20, batch=8, rows_at_once=3)
        shutil.copytree(folder, folder.parent / "fresh")
        return script(folder, "pretrain.py")

    return once(tmp_path_factory, "alone", make)[0]


@pytest.fixture
def fresh(alone, tmp_path):
    """Return a function that gives another copy of that project as it was before its run."""
    return lambda name: shutil.copytree(alone.parent / "fresh", tmp_path / name)


def test_a_stop_on_one_process_saves_all_and_one_alone_resumes(alone, fresh):
    """A rented machine that gets its notice tells one process only: all stop after the same update.
    On one GPU the run resumes there, never at 0; what two learned and then one is what one learns.
    """
    project = fresh("noticed")
    process = launch(project, "--standalone", "--nproc_per_node", 2)
    while 4 not in saved(project):
        assert process.poll() is None, (project / "log.txt").read_text()
        time.sleep(0.01)
    workers = [
        child
        for child in psutil.Process(process.pid).children()
        if "pretrain.py" in child.cmdline()
    ]
    workers[-1].send_signal(signal.SIGTERM)
    _, said = ended(process, project)
    assert "The same command resumes" in said and saved(project)[-1] == 10, (
        said
    )  # they ask one another every ten
    assert "Resuming after update 10." in on(1, project)
    losses_agree(alone, project)


def refused(nodes):
    """Check that every node ended with exit code 2 of its process, and with the sentence."""
    for code, said in nodes:
        assert code and "must be on a disk that all machines share" in said, said
        assert re.search(r"exitcode +: 2\b", said) and "--out" in said, said


def test_two_machines_without_a_shared_disk_are_refused(alone, fresh, tmp_path):
    """A machine that finds no checkpoint must not begin at 0 while another one resumes, and one
    that cannot read what the other saves could never resume: both stop and say so, when resuming
    and when saving, before the run has cost more than one interval.
    """
    pair = [shutil.copytree(alone, tmp_path / "first"), fresh("second")]
    before = made(pair[0] / "out" / "checkpoints"), metrics(pair[0])
    refused(on_two_machines(pair))  # resuming: only one has something to resume
    assert (made(pair[0] / "out" / "checkpoints"), metrics(pair[0])) == before

    refused(on_two_machines([fresh("third"), fresh("fourth")]))  # saving
    assert not (tmp_path / "third" / "out" / "model").exists()


def test_two_machines_fall_back_together(alone, tmp_path):
    """A checkpoint that one machine cannot read is used by none: both take the one before, it is
    said, and they learn the same again. (The folders are copies of one another here.)
    """
    pair = [shutil.copytree(alone, tmp_path / name) for name in ("first", "second")]
    (pair[1] / "out" / "checkpoints" / "00000020" / "optimizer.bin").write_bytes(b"half")
    (code, said), (other, _) = on_two_machines(pair)
    assert code == other == 0, said
    assert "second/out/checkpoints/00000020 cannot be loaded" in said
    assert "Resuming after update 16." in said
    losses_agree(alone, pair[0])


def test_fsdp_learns_what_one_process_does(alone, fresh):
    """A model in pieces over the processes is the same training; it resumes with another number of
    them, and is saved whole.
    """
    project = fresh("pieces")
    on(2, project, name=__file__)
    # it was no DDP
    assert list(project.glob("out/checkpoints/*/pytorch_model_fsdp_0/__1_0.distcp"))
    losses_agree(alone, project)
    shutil.rmtree(project / "out" / "checkpoints" / "00000020")  # as if killed before it
    assert "Resuming after update 16." in on(1, project, name=__file__)
    losses_agree(alone, project)
    one, pieces = (
        AutoModelForCausalLM.from_pretrained(folder / "out" / "model")
        for folder in (alone, project)
    )
    assert pieces.lm_head.weight is pieces.model.embed_tokens.weight
    for (name, a), (_, b) in zip(one.named_parameters(), pieces.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4), name


if __name__ == "__main__":
    sharded()
