import lib, torch
from common import make_tokenizer, tiny_model, stories
from transformers import GPT2Config, GPT2LMHeadModel
tok=make_tokenizer(); m=GPT2LMHeadModel(GPT2Config(vocab_size=len(tok),n_embd=32,n_layer=1,n_head=2,n_positions=64)); o=torch.optim.AdamW(m.parameters(),1e-3)
for t in stories(100,3):
    ids=tok(t,return_tensors='pt')['input_ids']; l=m(input_ids=ids,labels=ids).loss; l.backward(); o.step(); o.zero_grad()
