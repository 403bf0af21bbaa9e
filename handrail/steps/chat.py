"""Chat: talk to it."""

import signal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from handrail.data import village
from handrail.project.project import Stop
from handrail.project.screen import Outcome
from handrail.steps.words import Words

FILES = ["chat.py"]
LEAVES = []


def expect(project):
    texts = bool(project.settings.get("data"))
    return {
        "folder": "out/model" if texts else "out/finetune/model",
        "script": "pretrain.py" if texts else "finetune.py",
        "texts": "" if texts else None,
        "answers": None if texts else "",
        "prompt": project.settings.get("prompt") if texts else None,
        "dir": project.typed,
    }


def run(project, screen):
    return (continues if project.settings.get("data") else answers)(project, screen)


def newest_weights(project, program, folder):
    """Return the weights in the newest checkpoint of a run, on the CPU wherever they were made."""
    found = program.checkpoint.checkpoints(folder / "checkpoints")
    file = found[max(found)] / "pytorch_model.bin" if found else folder / "checkpoints"
    if not file.is_file():
        raise Stop(
            f"{file} is not there, so the saved model cannot be compared with what was trained. "
            f"Put the checkpoints back, or talk to the model: python chat.py{' --cpu' * project.cpu}"
        )
    return torch.load(file, map_location="cpu")


def answers(project, screen):
    """Of a model that was taught to answer: is what was saved what was trained? Then talk."""
    program = project.load("finetune", "checkpoint", "chat", "messages")
    values = program.settings.read("", project.flags, "finetune")
    trained, tokenizer = program.finetune.load(values)
    weights = newest_weights(project, program, project.out / "finetune")
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
    screen.say("A question, and its answer", [chat[-2]["content"], f"→ {reply}"])
    right = program.messages.end_of_turn(tokenizer)[1]
    checks = judge(project, apart, near, end, right)
    talk(project, screen)
    return Outcome(checks, {}, [reply])


def judge(project, apart, near, end, right):
    """Return the checks of a saved model: its logits, and the token at which it stops."""
    words, shown = Words(project, "chat"), expect(project)
    shown |= {"near": f"< {near:.2g}" if near else "0", "end": right}
    same = apart <= near
    return [
        words.check("difference between saved and trained logits", f"{apart:.2g}", same, **shown),
        words.check("the token that ends a text", f"token {end}", end == right, **shown),
    ]


def talk(project, screen):
    if screen.talks and screen.ask("Talk to it now? y, or Enter to continue:").lower() == "y":
        talking = project.python("chat.py")
        before = signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # Ctrl-C ends a reply there, and nothing here
        talking.wait()
        signal.signal(signal.SIGINT, before)


def verdict(project, text):
    """Return, of a story of the built-in world, whether it follows the rules, as a remark."""
    if not project.settings.get("world"):
        return ""
    found = village.parse(text)
    return "  [follows all rules]" if found.valid else f"  [wrong: {found.why}]"


def continues(project, screen):
    """Of a model that continues text: is what was saved what was trained? Then talk."""
    program = project.load("model", "checkpoint", "pretrain", "batches")
    values = program.values
    tokenizer = AutoTokenizer.from_pretrained(project.out / "model")
    plain = AutoModelForCausalLM.from_pretrained(project.out / "model", dtype=torch.float32).eval()
    trained = program.model.build(values, tokenizer).eval()
    trained.load_state_dict(newest_weights(project, program, project.out))
    val = program.batches.load_tokens(project.out / "tokens", "val")[: min(256, values.context)]
    inputs = torch.from_numpy(val.astype("int64"))[None]  # (1, T)
    with torch.no_grad():
        apart = (plain(inputs).logits - trained(inputs).logits).abs().max().item()
    torch.manual_seed(values.seed)
    texts = tokenizer.batch_decode(program.pretrain.write(plain, tokenizer, values.prompt, 3))
    screen.say(f"It continues {values.prompt!r}", [text + verdict(project, text) for text in texts])
    end = plain.generation_config.eos_token_id
    checks = judge(project, apart, 0, end, tokenizer.eos_token_id)
    talk(project, screen)
    return Outcome(checks, {}, texts)
