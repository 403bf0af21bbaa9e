"""Chat: talk to it."""

import signal

from handrail.data import village
from handrail.project.project import Stop
from handrail.project.screen import Outcome
from handrail.steps.words import Words, shown_if

FILES = ["chat.py"]
LEAVES = []


def expect(project):
    texts = bool(project.settings.get("data"))
    shown = shown_if(texts=texts, answers=not texts) | {"dir": project.typed}
    if texts:
        return shown | {
            "folder": "out/model",
            "script": "pretrain.py",
            "prompt": project.settings.get("prompt"),
        }
    return shown | {"folder": "out/finetune/model", "script": "finetune.py"}


def run(project, screen):
    """Is what was saved what was trained? Then talk."""
    kind = continues if project.settings.get("data") else answers
    apart, near, right, end, texts = kind(project, screen)
    words, shown = Words(project, "chat"), expect(project)
    shown |= {"near": f"< {near:.2g}" if near else "0", "end": right}
    name = "difference between saved and trained logits"
    checks = [
        words.check(name, f"{apart:.2g}", apart <= near, **shown),
        words.check("the token that ends a text", f"token {end}", end == right, **shown),
    ]
    talk(project, screen)
    return Outcome(checks, {}, texts)


def newest_weights(project, program, folder):
    """Return the weights in the newest checkpoint of a run, on the CPU wherever they were made."""
    import torch

    found = program.checkpoint.checkpoints(folder / "checkpoints")
    file = found[max(found)] / "pytorch_model.bin" if found else folder / "checkpoints"
    if not file.is_file():
        raise Stop(
            f"{file} is not there, so the saved model cannot be compared with what was trained. "
            f"Put the checkpoints back, or talk to the model: {project.script('chat.py')}"
        )
    return torch.load(file, map_location="cpu")


def saved(folder):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def compared(plain, trained, ids):
    """Return (how far the logits of two models are apart, the largest logit) on one row of ids."""
    import torch

    with torch.no_grad():
        logits = trained.eval()(ids).logits
        return (plain(ids).logits - logits).abs().max().item(), logits.abs().max().item()


def answers(project, screen):
    """Look at a model that was taught to answer.

    Return (difference of the logits, how much is near enough, the right end token, the saved one,
    texts).
    """
    import torch

    program = project.load("finetune", "checkpoint", "chat", "messages")
    values = program.settings.read("", project.flags, "finetune")
    trained, tokenizer = program.finetune.load(values)
    weights = newest_weights(project, program, project.out / "finetune")
    trained.load_state_dict(weights)
    plain = saved(project.out / "finetune" / "model")
    chat = program.messages.load_rows(project.out / "chats" / "val.jsonl")[0]["messages"]
    ids = torch.tensor([program.messages.encode(tokenizer, chat)[0][0]])  # (1, T)
    apart, largest = compared(plain, trained, ids)
    # LoRA on a GPU with bf16 rounds the merged weights to 16 bits
    rounded = any(tensor.dtype == torch.bfloat16 for tensor in weights.values())
    asked = tokenizer.apply_chat_template(
        chat[:-1], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = plain.generate(**asked, max_new_tokens=80, use_cache=True, do_sample=False)
    reply = tokenizer.decode(written[0, asked["input_ids"].size(1) :], skip_special_tokens=True)
    screen.say("A question, and its answer", [chat[-2]["content"], f"→ {reply}"])
    right = program.messages.end_of_turn(tokenizer)[1]
    near = 0.02 * largest if rounded else 1e-3
    return apart, near, right, plain.generation_config.eos_token_id, [reply]


def talk(project, screen):
    if screen.talks and screen.ask("Talk to it now? y, or Enter to continue:").lower() == "y":
        talking = project.python("chat.py")
        # Ctrl-C ends a reply there, and nothing here
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        talking.wait()
        signal.signal(signal.SIGINT, before)


def verdict(project, text):
    """Return, of a story of the built-in world, whether it follows the rules, as a remark."""
    if not project.settings.get("world"):
        return ""
    found = village.parse(text)
    return "  [follows all rules]" if found.valid else f"  [wrong: {found.why}]"


def continues(project, screen):
    """Look at a model that continues text; return what `answers` does."""
    import torch
    from transformers import AutoTokenizer

    program = project.load("model", "checkpoint", "pretrain", "batches")
    values = program.values
    tokenizer = AutoTokenizer.from_pretrained(project.out / "model")
    plain, trained = saved(project.out / "model"), program.model.build(values, tokenizer)
    trained.load_state_dict(newest_weights(project, program, project.out))
    val = program.batches.load_tokens(project.out / "tokens", "val")[: min(256, values.context)]
    apart, _ = compared(plain, trained, torch.from_numpy(val.astype("int64"))[None])  # (1, T)
    torch.manual_seed(values.seed)
    texts = tokenizer.batch_decode(program.pretrain.write(plain, tokenizer, values.prompt, 3))
    shown = [text + verdict(project, text) for text in texts]
    screen.say(f"It continues {values.prompt!r}", shown, plain=True)
    return apart, 0, tokenizer.eos_token_id, plain.generation_config.eos_token_id, texts
