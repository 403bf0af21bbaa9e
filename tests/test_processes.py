"""The learner's run on several processes and several machines: torchrun, gloo and the loopback stand for GPUs and a network.

Run as a script it is the launcher that cuts a model into pieces over gloo: torchrun --nproc_per_node 2 tests/test_processes.py --cpu
"""

import os
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
from conftest import BIN, decide, metrics, once, script, without_its_run
from transformers import AutoModelForCausalLM


def sharded():
    """Run ./pretrain.py unchanged under FSDP2 on the CPU: Accelerate would take DDP there in silence."""
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
    code, said = ended(
        launch(project, "--standalone", "--nproc_per_node", processes, **how), project
    )
    assert code == 0, said
    return said


def on_two_machines(projects):
    """Start two nodes, each in a folder of its own as on a disk of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    how = [
        "--nnodes",
        2,
        "--nproc_per_node",
        1,
        "--master_addr",
        "127.0.0.1",
        "--master_port",
        port,
        "--node_rank",
    ]
    return [launch(project, *how, rank) for rank, project in enumerate(projects)]


def losses_agree(one, other):
    """AdamW on other processes sums in another order: 1e-5 is the most that ten updates make of that."""
    for a, b in zip(metrics(one), metrics(other), strict=True):
        assert (a["step"], a["tokens"]) == (b["step"], b["tokens"]) and a["loss"] == pytest.approx(
            b["loss"], abs=1e-5
        )
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
        assert a.get("val_loss", 0) == pytest.approx(b.get("val_loss", 0), rel=1e-4)


def forget_the_end(project):
    """Take the newest checkpoint away, as if the run had been killed before it."""
    shutil.rmtree(sorted((project / "out" / "checkpoints").iterdir())[-1])


@pytest.fixture(scope="session")
def alone(walked, tmp_path_factory):
    """A project with AdamW, run on one process for ten updates."""

    def make(folder):
        adamw = "def make_optimizer(model, lr):\n    return torch.optim.AdamW(model.parameters(), lr)\n\n\ndef muon_optimizer(model, lr):"
        file = without_its_run(walked[0], folder) / "optimizer.py"
        file.write_text(file.read_text().replace("def make_optimizer(model, lr):", adamw))
        decide(folder, lr=1e-3, updates=10, batch=8, rows_at_once=3)
        shutil.copytree(folder, folder.parent / "fresh")
        return script(folder, "pretrain.py")

    return once(tmp_path_factory, "alone", make)[0]


@pytest.fixture
def fresh(alone, tmp_path):
    """Return a function that gives another copy of that project as it was before its run."""
    return lambda name: shutil.copytree(alone.parent / "fresh", tmp_path / name)


def test_a_stop_on_one_process_saves_all_and_one_alone_goes_on(alone, fresh):
    """A rented machine that gets its notice tells one process only: all stop after the same update. On one GPU it goes on from there, never from 0; what two learned and then one is what one learns."""
    project = fresh("noticed")
    process = launch(project, "--standalone", "--nproc_per_node", 2)
    while not list(project.glob("out/checkpoints/00000004")):
        assert process.poll() is None, (project / "log.txt").read_text()
        time.sleep(0.01)
    workers = [
        child
        for child in psutil.Process(process.pid).children()
        if "pretrain.py" in child.cmdline()
    ]
    workers[-1].send_signal(signal.SIGTERM)
    _, said = ended(process, project)
    stopped_at = int(max(path.name for path in (project / "out" / "checkpoints").iterdir()))
    assert "saved" in said and 4 < stopped_at < 10, said
    assert f"going on after update {stopped_at}" in on(1, project)
    losses_agree(alone, project)


def test_two_machines_without_a_shared_disk_never_part_ways(alone, fresh, tmp_path):
    """A machine that finds no checkpoint must not begin at 0 beside one that goes on: both stop and say what to copy; then they go on together."""
    pair = [shutil.copytree(alone, tmp_path / "first"), fresh("second")]
    before = [line["step"] for line in metrics(pair[0])]
    for code, said in [ended(node, project) for node, project in zip(on_two_machines(pair), pair)]:
        assert code and "is on all machines: share that folder" in said and "loss" not in said, said
    assert [line["step"] for line in metrics(pair[0])] == before

    shutil.copytree(
        pair[0] / "out" / "checkpoints", pair[1] / "out" / "checkpoints", dirs_exist_ok=True
    )
    (pair[1] / "out" / "checkpoints" / "00000010" / "optimizer.bin").write_bytes(
        b"half"
    )  # the copy was cut off
    for code, said in [ended(node, project) for node, project in zip(on_two_machines(pair), pair)]:
        assert (
            code == 0 and "00000010 cannot be used" in said and "going on after update 8" in said
        ), said
    losses_agree(alone, pair[0])


def test_fsdp_learns_what_one_process_does(alone, fresh):
    """A model in pieces over the processes is the same training; it goes on with another number of them, and is saved whole."""
    project = fresh("pieces")
    on(2, project, name=__file__)
    assert list(
        project.glob("out/checkpoints/*/pytorch_model_fsdp_0/__1_0.distcp")
    )  # it was no DDP
    losses_agree(alone, project)
    forget_the_end(project)
    assert "going on after update 8" in on(1, project, name=__file__)
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
