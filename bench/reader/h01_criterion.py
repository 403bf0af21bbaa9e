import torch, torch.nn as nn
torch.manual_seed(0)
text=open('/work/main/README.md').read(); V=sorted(set(text)); data=torch.tensor([V.index(c) for c in text])
class GPT(nn.Module):
    def __init__(s):
        super().__init__(); s.e=nn.Embedding(len(V),64); s.p=nn.Embedding(64,64)
        s.l=nn.TransformerEncoder(nn.TransformerEncoderLayer(64,4,128,batch_first=True),2); s.h=nn.Linear(64,len(V))
    def forward(s,x):
        T=x.size(1); m=nn.Transformer.generate_square_subsequent_mask(T)
        return s.h(s.l(s.e(x)+s.p(torch.arange(T)),mask=m,is_causal=True))
model=GPT(); opt=torch.optim.AdamW(model.parameters(),3e-3); criterion=nn.CrossEntropyLoss()
train,val=data[:8000],data[8000:]
def get(d):
    i=torch.randint(len(d)-65,(16,)); return torch.stack([d[a:a+64] for a in i]),torch.stack([d[a+1:a+65] for a in i])
sched=torch.optim.lr_scheduler.CosineAnnealingLR(opt,3)
for epoch in range(2):
    model.train()
    for it in range(40):
        x,y=get(train); out=model(x)
        loss=criterion(out.transpose(1,2),y)
        opt.zero_grad(); loss.backward(); opt.step()
    sched.step()
    model.eval()
    with torch.no_grad():
        for _ in range(5):
            x,y=get(val); vl=criterion(model(x).transpose(1,2),y)
    print(epoch,loss.item(),vl.item())
