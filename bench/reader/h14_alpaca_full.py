# custom PreTrainedModel of one's own, GradScaler disabled, accumulation, EMA, periodic generation
import lib, torch, torch.nn as nn, torch.nn.functional as F, copy
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PretrainedConfig
from transformers.modeling_outputs import CausalLMOutput
from common import make_tokenizer, stories
torch.manual_seed(0); tok=make_tokenizer()
class Cfg(PretrainedConfig):
    model_type='mygpt'
    def __init__(s,vocab_size=512,d=64,**k): s.vocab_size=vocab_size; s.d=d; super().__init__(**k)
class MyGPT(PreTrainedModel):
    config_class=Cfg
    def __init__(s,c):
        super().__init__(c); s.e=nn.Embedding(c.vocab_size,c.d); s.p=nn.Embedding(256,c.d); s.b=nn.TransformerEncoder(nn.TransformerEncoderLayer(c.d,4,128,batch_first=True,dropout=0.),2); s.h=nn.Linear(c.d,c.vocab_size); s.post_init()
    def forward(s,input_ids,labels=None,attention_mask=None,**k):
        T=input_ids.size(1); m=nn.Transformer.generate_square_subsequent_mask(T); z=s.h(s.b(s.e(input_ids)+s.p(torch.arange(T)),mask=m,is_causal=True))
        l=F.cross_entropy(z[:,:-1].flatten(0,1),labels[:,1:].flatten()) if labels is not None else None
        return CausalLMOutput(loss=l,logits=z)
m=MyGPT(Cfg(vocab_size=len(tok))); ema=copy.deepcopy(m); o=torch.optim.AdamW(m.parameters(),3e-3); sc=torch.amp.GradScaler('cpu',enabled=False)
def col(b):
    r=tok([t+tok.eos_token for t in b],padding=True,truncation=True,max_length=128,return_tensors='pt'); r['labels']=r['input_ids'].masked_fill(r['attention_mask']==0,-100); return {k:r[k] for k in('input_ids','attention_mask','labels')}
dl=DataLoader(stories(700,3),batch_size=8,shuffle=True,collate_fn=col,num_workers=2); n=0
for i,b in enumerate(dl):
    l=m(**b).loss/2; sc.scale(l).backward()
    if i%2:
        sc.unscale_(o); nn.utils.clip_grad_norm_(m.parameters(),1.); sc.step(o); sc.update(); o.zero_grad(); n+=1
        with torch.no_grad():
            for a,p in zip(ema.parameters(),m.parameters()): a.lerp_(p,.1)
        if n%10==0:
            ids=tok('One',return_tensors='pt')['input_ids']
            with torch.no_grad():
                for _ in range(20): ids=torch.cat([ids,m(ids).logits[:,-1:].argmax(-1)],1)
            print(l.item(),tok.decode(ids[0]))
m.save_pretrained('/tmp/eyes4/my_out'); tok.save_pretrained('/tmp/eyes4/my_out')
