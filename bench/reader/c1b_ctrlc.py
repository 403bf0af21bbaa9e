import torch, torch.nn as nn, torch.nn.functional as F, time
torch.manual_seed(0); m=nn.Linear(4,2); o=torch.optim.SGD(m.parameters(),.1)
try:
    for i in range(1500):
        l=F.cross_entropy(m(torch.randn(8,4)),torch.randint(0,2,(8,))); o.zero_grad(); l.backward(); o.step(); time.sleep(.01)
except KeyboardInterrupt:
    print("saving ...",flush=True); time.sleep(2); torch.save(m.state_dict(),"/tmp/eyes4/saved.pt"); print("saved",flush=True)
