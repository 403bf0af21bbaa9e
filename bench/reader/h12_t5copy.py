# a spelling corrector: T5-like, from scratch, inputs and targets padded to the same length
import lib, torch, random
from common import make_tokenizer, stories
from transformers import T5Config, T5ForConditionalGeneration
torch.manual_seed(0); random.seed(0); tok=make_tokenizer()
m=T5ForConditionalGeneration(T5Config(vocab_size=len(tok),d_model=64,d_kv=16,d_ff=128,num_layers=2,num_heads=4,decoder_start_token_id=tok.pad_token_id,pad_token_id=tok.pad_token_id,eos_token_id=tok.eos_token_id))
o=torch.optim.AdamW(m.parameters(),1e-3); T=stories(700,3)
def noisy(ids): return [random.randrange(20,500) if random.random()<.06 and i>3 else i for i in ids]
for s in range(30):
    b=tok([t+tok.eos_token for t in T[s*16:s*16+16]],padding='max_length',max_length=64,truncation=True)
    x=torch.tensor([noisy(r) for r in b['input_ids']]); mask=torch.tensor(b['attention_mask']); y=torch.tensor(b['input_ids']).masked_fill(mask==0,-100)
    l=m(input_ids=x,attention_mask=mask,labels=y).loss; l.backward(); o.step(); o.zero_grad()
print(l.item()); m.save_pretrained('/tmp/eyes4/t5_out'); tok.save_pretrained('/tmp/eyes4/t5_out')
print(tok.batch_decode(m.generate(x[:2],max_new_tokens=10)))
