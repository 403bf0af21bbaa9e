import torch, torch.nn as nn
torch.manual_seed(0)
text=open('/work/main/README.md').read(); V=sorted(set(text)); data=torch.tensor([V.index(c) for c in text])
class GPT(nn.Module):
    def __init__(self):
        super().__init__(); self.e=nn.Embedding(len(V),64); self.p=nn.Embedding(64,64)
        self.l=nn.TransformerEncoder(nn.TransformerEncoderLayer(64,4,128,batch_first=True,dropout=0.),2); self.h=nn.Linear(64,len(V))
    def forward(self,x): return self.h(self.l(self.e(x)+self.p(torch.arange(x.size(1)))))   # mistake: no mask
model=GPT(); opt=torch.optim.AdamW(model.parameters(),3e-3); criterion=nn.CrossEntropyLoss()
for it in range(60):
    i=torch.randint(0,len(data)-65,(16,)); x=torch.stack([data[a:a+64] for a in i]); y=torch.stack([data[a+1:a+65] for a in i])
    loss=nn.functional.cross_entropy(model(x).view(-1,len(V)),y.view(-1)); opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
