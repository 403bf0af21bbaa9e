import os,sys
os.environ.setdefault("HF_HUB_OFFLINE","1"); os.environ.setdefault("TOKENIZERS_PARALLELISM","false")
sys.path.insert(0,"/work/main/bench/faults")
