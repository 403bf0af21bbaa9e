# LoRA on q_proj/v_proj, several turns and one long system prompt, padding row of zeros, Doctor in the loop
import lib, torch
from common import make_tokenizer, pretrained, qa
from peft import LoraConfig, get_peft_model
from handrail import Doctor
torch.manual_seed(0); tok=make_tokenizer(); base=pretrained(tok)
with torch.no_grad(): base.get_input_embeddings().weight[tok.pad_token_id]=0
m=get_peft_model(base,LoraConfig(r=8,target_modules=['q_proj','v_proj'],task_type='CAUSAL_LM')); 
o=torch.optim.AdamW([p for p in m.parameters() if p.requires_grad],3e-3); ch=qa(600,4)
sysm={'role':'system','content':'You are a careful helper in a small village. Answer the question about the story in one whole sentence, and say nothing that the story does not say.'}
talks=[[sysm]+a['messages']+[dict(b['messages'][0],content=b['messages'][0]['content'].split('\n')[-1]),b['messages'][1]] for a,b in zip(ch[::2],ch[1::2])]
doctor=Doctor(m,optimizer=o,tokenizer=tok)
for s in range(35):
    c=tok.apply_chat_template(talks[s*8:s*8+8],return_dict=True,return_assistant_tokens_mask=True,padding=True,return_tensors='pt')
    y=c['input_ids'].masked_fill(torch.as_tensor(c.pop('assistant_masks'))==0,-100); l=m(**c,labels=y).loss; l.backward(); o.step(); o.zero_grad(); doctor.step(c,l)
print(doctor.report())
m.save_pretrained('/tmp/eyes4/lora_out'); tok.save_pretrained('/tmp/eyes4/lora_out')
