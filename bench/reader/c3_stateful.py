import torch, torch.nn as nn, torch.nn.functional as F, hashlib
torch.manual_seed(0)
class LM(nn.Module):   # truncated backpropagation: the hidden state goes on from batch to batch
    def __init__(s): super().__init__(); s.e=nn.Embedding(40,32); s.rnn=nn.GRU(32,64,batch_first=True); s.h=nn.Linear(64,40); s.state=None
    def forward(s,x):
        if s.state is None or s.state.size(1)!=x.size(0): s.state=torch.zeros(1,x.size(0),64)
        out,h=s.rnn(s.e(x),s.state); s.state=h.detach(); return s.h(out)
m=LM(); o=torch.optim.AdamW(m.parameters(),1e-2); data=(torch.randint(0,40,(8,2000)).cumsum(1)%40)
for i in range(40):
    x,y=data[:,i*32:i*32+32],data[:,i*32+1:i*32+33]
    l=F.cross_entropy(m(x).flatten(0,1),y.flatten()); o.zero_grad(); l.backward(); o.step()
print(l.item(), hashlib.md5(b''.join(p.detach().numpy().tobytes() for p in m.parameters())).hexdigest())
