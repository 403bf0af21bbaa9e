import torch, torch.nn as nn
torch.manual_seed(0)
text=open('/work/main/README.md').read(); V=sorted(set(text)); data=torch.tensor([V.index(c) for c in text])
class LM(nn.Module):
    def __init__(self): super().__init__(); self.e=nn.Embedding(len(V)+1,64); self.r=nn.GRU(64,64,batch_first=True); self.h=nn.Linear(64,len(V)+1)
    def forward(self,x): return self.h(self.r(self.e(x))[0])
model=LM(); opt=torch.optim.AdamW(model.parameters(),3e-3); criterion=nn.CrossEntropyLoss()
rows=torch.stack([data[i:i+64] for i in range(0,9000,64)])
for it in range(40):
    x=rows[torch.randint(len(rows),(16,))]
    loss=nn.functional.cross_entropy(model(x).view(-1,len(V)+1),x.view(-1)); opt.zero_grad(); loss.backward(); opt.step()   # mistake: targets = inputs, never shifted
    if it%10==9:
        model.eval()
        with torch.no_grad(): v=nn.functional.cross_entropy(model(rows[:40]).view(-1,len(V)+1),rows[:40].view(-1))  # mistake: evaluates training rows
        model.train(); print(loss.item(),v.item())
