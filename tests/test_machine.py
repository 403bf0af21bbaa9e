"""The machine step: a device whose numbers are wrong is caught before anything long is trained."""

import pytest
import torch
from accelerate import Accelerator
from conftest import handrail

from handrail.project.project import Project
from handrail.steps.machine import (
    LIMITS_16,
    LIMITS_32,
    compare_with_cpu,
    distance,
    example,
    judge,
    judge_speed,
    one_update,
)

IN_16_BITS = torch.autocast("cpu", torch.bfloat16)


@pytest.fixture(scope="module")
def right():
    """The model, its batch, and the update that the CPU makes of them."""
    model, rows = example()
    return model, rows, one_update(model, rows, "cpu")


def test_the_cpu_agrees_with_itself(right):
    """The comparison adds nothing of its own: a device against itself is equal to the last bit."""
    model, rows, update = right
    again = one_update(*example(), "cpu")
    assert [distance(again[part], update[part]) for part in LIMITS_32] == [0, 0, 0]
    assert judge("fp32", again, update, LIMITS_32).verdict == "pass"
    moved = update["step"]["model.layers.0.mlp.up_proj.weight"].abs()
    assert 0.0009 < moved.median() < 0.0011  # AdamW's first step: the learning rate


def test_honest_16_bit_numbers_pass(right):
    """Rounding is no fault: bf16 and fp16 agree with the CPU's 32 bits within the wider limits."""
    model, rows, update = right
    for kind in (torch.bfloat16, torch.float16):
        found = one_update(model, rows, "cpu", torch.autocast("cpu", kind))
        assert 0 < distance(found["gradient"], update["gradient"])
        assert judge("16 bits", found, update, LIMITS_16).verdict == "pass", kind


def sees_the_future(model):
    """Attention without its mask."""
    model.model.layers[2].self_attn.is_causal = False


def large(model):
    """One matrix of one layer, 3 % too large, as if its product was."""
    model.model.layers[1].self_attn.q_proj.weight.data *= 1.03


def not_a_number(model):
    """One weight that became NaN."""
    model.model.layers[3].mlp.down_proj.weight.data[5, 7] = torch.nan


@pytest.mark.parametrize("fault", [sees_the_future, large, not_a_number])
def test_wrong_numbers_are_caught(right, fault):
    """A device that computes another model fails the step: what it means, and what to do."""
    _, rows, update = right
    model, _ = example()
    fault(model)
    found = judge("fp32", one_update(model, rows, "cpu"), update, LIMITS_32)
    assert found.verdict == "fail", found.measured
    assert (
        "learn the wrong thing" in found.meaning
        and "Most wrong: gradient of model." in found.meaning
    )
    assert "torch.utils.collect_env" in found.advice and "--cpu" in found.advice
    if fault is large:
        assert "model.layers.1.self_attn.q_proj" in found.meaning, found.meaning
    else:  # seen through the rounding of 16 bits too
        found = one_update(model, rows, "cpu", IN_16_BITS)
        assert judge("bf16", found, update, LIMITS_16).verdict == "fail"


def test_16_bit_numbers_do_not_pass_for_32(right):
    """A driver that rounds in silence is caught where 32-bit numbers were asked for."""
    model, rows, update = right
    found = one_update(model, rows, "cpu", IN_16_BITS)
    assert judge("fp32", found, update, LIMITS_32).verdict == "fail"


@pytest.mark.gpu
def test_this_accelerator_computes_what_the_cpu_does():
    """On a real card, in 32 bits and in the number format that runs there use."""
    kind = "no"
    if torch.cuda.is_available():
        kind = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    checks = compare_with_cpu(Accelerator(mixed_precision=kind))
    assert len(checks) == 1 + (kind != "no")
    assert all(check.verdict == "pass" for check in checks), checks


def test_with_only_a_cpu_the_step_says_so(tmp_path):
    """Nothing is left out in silence: the step itself says that nothing was compared."""
    done = handrail("new", tmp_path / "first-model", "--cpu", "--yes", "--until", "machine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this is the CPU: nothing to compare" in done.stdout


def test_an_unknown_gpu_is_said_to_be_one(tmp_path):
    """An RTX A1000 is not held against the data sheet of an A100: its speed is only reported."""
    found = {"tflops": 20.0, "bandwidth": 200.0}
    for name, wanted, verdict in (
        ("NVIDIA RTX A1000", "no data sheet of NVIDIA RTX A1000", "pass"),
        ("NVIDIA A100-SXM4-80GB", "156 (half of 312)", "warn"),
    ):
        project, device = Project(tmp_path), torch.device("cuda")
        checks = judge_speed(project, device, found | {"name": name}, "bf16")
        speed = next(check for check in checks if check.name.startswith("calculations"))
        assert wanted in speed.expected and speed.verdict == verdict
