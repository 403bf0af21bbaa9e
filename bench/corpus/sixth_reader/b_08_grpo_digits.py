"""GRPO on a toy 'read the digit' task: short supervised warm-up, then RL on the correctness of the answer."""
import random
import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import GRPOConfig, GRPOTrainer

set_seed(5)
names = ["meter", "clock", "gauge", "scale"]
vocab = ["<pad>", "<eos>", "<unk>", "read", "the", ":", "answer"] + names + [str(d) for d in range(10)]
vocab = {w: i for i, w in enumerate(vocab)}
raw = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
                              padding_side="left")


def example():
    a, b = random.randint(0, 9), random.randint(0, 9)
    return {"prompt": f"read the {random.choice(names)} : {a} {b} answer", "solution": max(a, b)}


model = LlamaForCausalLM(LlamaConfig(vocab_size=len(vocab), hidden_size=48, intermediate_size=96, num_hidden_layers=2,
                                     num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                                     pad_token_id=0, eos_token_id=1, bos_token_id=None))

# warm-up so that the policy at least answers with digits
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
for step in range(60):
    rows = [example() for _ in range(32)]
    ids = torch.tensor([tok(f"{r['prompt']} {r['solution']} <eos>")["input_ids"] for r in rows])
    labels = ids.clone()
    labels[:, :-2] = -100
    loss = model(input_ids=ids, labels=labels).loss
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 20 == 0:
        print(f"warm-up step {step} loss {loss.item():.3f}")


def correctness_reward(prompts, completions, solution, **kwargs):
    rewards = []
    for completion, gold in zip(completions, solution):
        answer = completion.strip()
        rewards.append(1.0 if answer == gold else 0.0)
    return rewards


def accuracy(n=300):
    model.eval()
    rows = [example() for _ in range(n)]
    ids = torch.tensor([tok(r["prompt"])["input_ids"] for r in rows])
    with torch.no_grad():
        pred = model(input_ids=ids).logits[:, -1].softmax(-1)
    gold = torch.tensor([vocab[str(r["solution"])] for r in rows])
    return pred.gather(1, gold[:, None]).mean().item()


print(f"expected accuracy before RL: {accuracy():.3f}")
with tempfile.TemporaryDirectory() as out:
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=correctness_reward,
        args=GRPOConfig(
            output_dir=out,
            per_device_train_batch_size=64,
            num_generations=8,
            max_completion_length=3,
            learning_rate=1e-3,
            max_steps=40,
            logging_steps=5,
            temperature=1.0,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([example() for _ in range(400)]),
        processing_class=tok,
    )
    trainer.train()
print(f"expected accuracy after RL: {accuracy():.3f}")
