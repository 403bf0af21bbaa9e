"""SFT on support conversations (long transcript, then a routing question) with TRL; check fresh ones."""
import random

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

set_seed(5)
TEAMS = {"invoices": "billing", "laptops": "helpdesk", "holidays": "personnel", "contracts": "legal",
         "parking": "facilities", "adverts": "marketing"}
FILLER = ("the weather in the town was fine and people walked along the street to the market "
          "where they talked about the news of the day and bought bread and fruit").split()


def make():
    topic = random.choice(list(TEAMS))
    start = random.randrange(8)
    n = random.randint(32, 44)
    body = (FILLER * 4)[start:start + n]
    doc = " ".join(body) + f" . then somebody asked about {topic} ."
    return doc, f"which team handles {topic} ?", TEAMS[topic]


def prompt_of(doc, q):
    return f"transcript : {doc} question : {q} answer :"


rows = [make() for _ in range(600)]
texts = [f"{prompt_of(d, q)} {a}" for d, q, a in rows]
raw = Tokenizer(models.WordLevel(unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
raw.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["<unk>", "<pad>", "<eos>"]))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")

model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128,
                                     num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=256,
                                     bos_token_id=2, eos_token_id=2, pad_token_id=1))
args = SFTConfig(output_dir="/tmp/b07_out", max_length=32, num_train_epochs=4, per_device_train_batch_size=8,
                 learning_rate=3e-3, logging_steps=50, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
                 gradient_checkpointing=False, disable_tqdm=True, dataset_text_field="text")
trainer = SFTTrainer(model=model, args=args, train_dataset=Dataset.from_dict({"text": texts}),
                     processing_class=tokenizer)
trainer.train()

model.eval()
hits = 0
for i in range(20):
    doc, q, a = make()
    enc = tokenizer(prompt_of(doc, q), return_tensors="pt")
    out = model.generate(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=3,
                         do_sample=False)
    pred = tokenizer.decode(out[0, enc["input_ids"].shape[1]:], skip_special_tokens=True)
    hits += pred.strip() == a
    if i < 3:
        print(q, "->", pred, "| expected:", a)
print(f"answer accuracy {hits / 20:.2f}")
