import torch, torch.nn as nn, torch.nn.functional as F, os, subprocess, sys
torch.manual_seed(0)
def net(h): return nn.Sequential(nn.Linear(10,h),nn.ReLU(),nn.Linear(h,3))
W=torch.randn(10,3)
if not os.path.exists('teacher.pt'):
    t=net(64); o=torch.optim.Adam(t.parameters(),1e-2)
    for i in range(50): x=torch.randn(64,10); l=F.cross_entropy(t(x),(x@W).argmax(1)); o.zero_grad(); l.backward(); o.step()
    torch.save({'model':t.state_dict(),'optimizer':o.state_dict(),'epoch':5},'teacher.pt'); sys.exit()
teacher=net(64); teacher.load_state_dict(torch.load('teacher.pt')['model']); teacher.eval().requires_grad_(False)
m=net(16); opt=torch.optim.Adam(m.parameters(),1e-2)
for i in range(40):
    x=torch.randn(64,10)
    with torch.no_grad(): tl=teacher(x)
    loss=F.kl_div(m(x).log_softmax(1),tl.softmax(1),reduction='batchmean'); opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
