"""Chat: talk to it."""

import signal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from handrail.project import Stop
from handrail.screen import Outcome, check

TITLE = "Talk to it"
FILES = ["chat.py"]
LEAVES = []
SECONDS = (5, 8)
MORE = """A language model has no plan and no memory besides the text before it. Each token is drawn from the chances it
computes for the next one. That is why the same beginning gives another story each time, and why a wrong word early on is
taken up and continued: to the model, its own words are as true as yours."""


def expect(project):
    return [
        "The folder out/model loads in plain Transformers, without any of your files, and gives the very logits of the "
        "model that was trained. Then it continues the beginning that you give it.",
    ]


def run(project, screen):
    return (continues if project.settings.get("data") else answers)(project, screen)


def newest_weights(program, folder):
    """Return the weights in the newest checkpoint of a run, on the CPU wherever they were made."""
    found = program.checkpoint.checkpoints(folder / "checkpoints")
    file = found[max(found)] / "pytorch_model.bin" if found else folder / "checkpoints"
    if not file.is_file():
        raise Stop(
            f"{file} is not there, so the saved model cannot be compared with what was trained. "
            "Put the checkpoints back, or talk to the model: python chat.py"
        )
    return torch.load(file, map_location="cpu")


def answers(project, screen):
    """Of a model that was taught to answer: is what was saved what was trained? Then talk."""
    program = project.load("finetune", "checkpoint", "chat", "messages")
    values = program.settings.read("", project.flags, "finetune")
    trained, tokenizer = program.finetune.load(values)
    weights = newest_weights(program, project.out / "finetune")
    trained.load_state_dict(weights)
    # LoRA on a GPU with bf16 rounds the merged weights to 16 bits
    rounded = any(tensor.dtype == torch.bfloat16 for tensor in weights.values())
    plain = AutoModelForCausalLM.from_pretrained(
        project.out / "finetune" / "model", dtype=torch.float32
    ).eval()
    chat = program.messages.load_rows(project.out / "chats" / "val.jsonl")[0]["messages"]
    inputs = torch.tensor([program.messages.encode(tokenizer, chat)[0][0]])  # (1, T)
    with torch.no_grad():
        logits = trained.eval()(inputs).logits
        apart = (plain(inputs).logits - logits).abs().max().item()
        near = 0.02 * logits.abs().max().item() if rounded else 1e-3
        asked = tokenizer.apply_chat_template(
            chat[:-1], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        written = plain.generate(**asked, max_new_tokens=80, use_cache=True, do_sample=False)[
            0, asked["input_ids"].size(1) :
        ]
    reply, end = (
        tokenizer.decode(written, skip_special_tokens=True),
        plain.generation_config.eos_token_id,
    )
    screen.say("It is asked, and says", [chat[-2]["content"], f"→ {reply}"])
    checks = [
        check(
            "difference between saved and trained logits",
            f"< {near:.2g}",
            f"{apart:.2g}",
            apart < near,
            "The saved folder is another model.",
            "python finetune.py writes it again.",
        ),
        check(
            "end mark of its template",
            program.messages.end_of_turn(tokenizer)[1],
            end,
            program.messages.end_of_turn(tokenizer)[1] == end,
            "It would not know where to stop.",
        ),
    ]
    talk(project, screen)
    return Outcome(
        checks,
        f"It is a standard model with a chat template. Later: cd {project.typed}, then python chat.py"
        + (" --cpu" if project.cpu else ""),
        [reply],
    )


def talk(project, screen):
    if screen.talks and screen.ask("Talk to it now? y, or Enter to go on:").lower() == "y":
        talking = project.python("chat.py")
        before = signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # Ctrl-C ends a reply there, and nothing here
        talking.wait()
        signal.signal(signal.SIGINT, before)


def continues(project, screen):
    """Of a model that continues text: is what was saved what was trained? Then talk."""
    program = project.load("model", "checkpoint", "pretrain", "batches")
    values = program.values
    tokenizer = AutoTokenizer.from_pretrained(project.out / "model")
    plain = AutoModelForCausalLM.from_pretrained(project.out / "model", dtype=torch.float32).eval()
    trained = program.model.build(values, tokenizer).eval()
    trained.load_state_dict(newest_weights(program, project.out))
    val = program.batches.load_tokens(project.out / "tokens", "val")[: min(256, values.context)]
    inputs = torch.from_numpy(val.astype("int64"))[None]  # (1, T)
    with torch.no_grad():
        apart = (plain(inputs).logits - trained(inputs).logits).abs().max().item()
    torch.manual_seed(values.seed)
    texts = tokenizer.batch_decode(program.pretrain.write(plain, tokenizer, values.prompt, 3))
    screen.say(f"It continues {values.prompt!r}", texts)
    checks = [
        check(
            "difference between saved and trained logits",
            0,
            f"{apart:.2g}",
            apart == 0,
            "The saved folder is another model.",
            "python pretrain.py writes it again.",
        ),
        check(
            "end of text",
            tokenizer.eos_token_id,
            plain.generation_config.eos_token_id,
            plain.generation_config.eos_token_id == tokenizer.eos_token_id,
            "It would not know where to stop.",
        ),
    ]
    talk(project, screen)
    tells = f"What you have is a standard model. Later: cd {project.typed}, then python chat.py" + (
        " --cpu" if project.cpu else ""
    )
    return Outcome(checks, tells, texts)
