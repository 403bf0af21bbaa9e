import lib, torch
from common import make_tokenizer, stories
from transformers import DistilBertConfig, DistilBertForSequenceClassification, Trainer, TrainingArguments, DataCollatorWithPadding, EarlyStoppingCallback
torch.manual_seed(0); tok=make_tokenizer()
m=DistilBertForSequenceClassification(DistilBertConfig(vocab_size=len(tok),dim=64,n_layers=2,n_heads=4,hidden_dim=128,num_labels=2))
def ds(n,seed): return [dict(tok(t,truncation=True,max_length=96),labels=int(' key' in t)) for t in stories(n,seed)]
tr=Trainer(m,TrainingArguments('/tmp/eyes4/db_out',per_device_train_batch_size=16,num_train_epochs=2,eval_strategy='steps',eval_steps=10,save_steps=10,save_total_limit=2,load_best_model_at_end=True,report_to=[],logging_steps=10,learning_rate=1e-3,use_cpu=True,disable_tqdm=True),train_dataset=ds(480,3),eval_dataset=ds(64,99),processing_class=tok,data_collator=DataCollatorWithPadding(tok),callbacks=[EarlyStoppingCallback(5)])
tr.train(); tr.save_model('/tmp/eyes4/db_final')
