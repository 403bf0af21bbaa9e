import subprocess,signal,os,time,sys
for w in ([],["handrail","watch"]):
    p=subprocess.Popen(w+["python","c1b_ctrlc.py"],start_new_session=True,stdout=subprocess.PIPE,stderr=subprocess.STDOUT,text=True,preexec_fn=lambda:signal.signal(signal.SIGINT,signal.default_int_handler))
    time.sleep(6); os.killpg(p.pid,signal.SIGINT); out=p.communicate()[0]; time.sleep(1)
    print(w,"rc",p.returncode,"| checkpoint written:",os.path.exists("saved.pt")); print(out[-600:]); 
    if os.path.exists("saved.pt"): os.remove("saved.pt")
