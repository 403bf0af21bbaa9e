import torch, torch.nn as nn, torch.nn.functional as F, hashlib
torch.manual_seed(0)
class LoRALinear(nn.Linear):   # as in microsoft/LoRA loralib/layers.py
    def __init__(s,i,o,r=4):
        super().__init__(i,o); s.lora_A=nn.Parameter(torch.randn(r,i)*.02); s.lora_B=nn.Parameter(torch.zeros(o,r)); s.weight.requires_grad=False; s.merged=False
    def train(s,mode=True):
        nn.Linear.train(s,mode)
        if mode:
            if s.merged: s.weight.data-=s.lora_B@s.lora_A; s.merged=False
        else:
            if not s.merged: s.weight.data+=s.lora_B@s.lora_A; s.merged=True
    def forward(s,x):
        if not s.merged: return F.linear(x,s.weight,s.bias)+x@s.lora_A.T@s.lora_B.T
        return F.linear(x,s.weight,s.bias)
class GPT(nn.Module):
    def __init__(s):
        super().__init__(); s.e=nn.Embedding(40,32); s.rnn=nn.GRU(32,32,batch_first=True); s.q=LoRALinear(32,32); s.h=nn.Linear(32,40)
        for n,p in s.named_parameters():
            if 'lora_' not in n and not n.startswith(('h.','e.')): p.requires_grad=False
    def forward(s,idx): return s.h(torch.tanh(s.q(s.rnn(s.e(idx))[0])))
m=GPT(); o=torch.optim.AdamW([p for p in m.parameters() if p.requires_grad],1e-2)
data=torch.randint(0,40,(2000,)).cumsum(0)%40
m.train()
for i in range(40):
    ix=torch.randint(0,1900,(8,)); x=torch.stack([data[a:a+32] for a in ix]); y=torch.stack([data[a+1:a+33] for a in ix])
    l=F.cross_entropy(m(x).flatten(0,1),y.flatten()); o.zero_grad(); l.backward(); o.step()
print(l.item(), m.q.lora_B.norm().item(), hashlib.md5(b''.join(p.detach().numpy().tobytes() for p in m.parameters())).hexdigest())
