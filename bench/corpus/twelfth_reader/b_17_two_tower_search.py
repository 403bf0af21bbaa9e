"""Sentence embeddings for search: a BERT encoder trained with in-batch negatives."""
import random
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from transformers import BertConfig, BertModel

random.seed(0)
torch.manual_seed(0)
synonyms = {i: (f"q{i}", f"d{i}") for i in range(60)}
noise = [f"n{i}" for i in range(30)]
vocab = {w: i for i, w in enumerate(["[PAD]", "[CLS]"] + [w for s in synonyms.values() for w in s] + noise)}

def pair():
    topics = random.sample(range(60), 3)
    query = [synonyms[t][0] for t in topics] + random.choices(noise, k=2)
    doc = [synonyms[t][1] for t in topics] + random.choices(noise, k=6)
    random.shuffle(query)
    random.shuffle(doc)
    return query, doc

def batchify(texts):
    n = max(map(len, texts)) + 1
    ids = torch.tensor([[vocab["[CLS]"]] + [vocab[w] for w in t] + [0] * (n - 1 - len(t)) for t in texts])
    return ids, (ids != 0).long()

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = BertModel(BertConfig(vocab_size=len(vocab), hidden_size=64, num_hidden_layers=1, num_attention_heads=4,
                                         intermediate_size=128, max_position_embeddings=32), add_pooling_layer=False)

    def forward(self, texts):
        ids, mask = batchify(texts)
        h = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        h = (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return F.normalize(h, dim=-1)

train, test = [pair() for _ in range(3200)], [pair() for _ in range(300)]
loader = DataLoader(train, batch_size=64, shuffle=True, collate_fn=lambda r: ([q for q, _ in r], [d for _, d in r]))
model = Encoder()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

for epoch in range(5):
    model.train()
    total = 0.0
    for queries, docs in loader:
        q, d = model(queries), model(docs)
        sim = q @ d.T * 0.05
        target = torch.arange(len(q))
        loss = (F.cross_entropy(sim, target) + F.cross_entropy(sim.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        q, d = model([a for a, _ in test]), model([b for _, b in test])
        recall = ((q @ d.T).argmax(1) == torch.arange(len(test))).float().mean().item()
    print(f"epoch {epoch + 1}: loss {total / len(loader):.4f} recall@1 among 300 documents {recall:.3f}")
