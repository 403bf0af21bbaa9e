"""The doctor: finds silent mistakes of training programs by watching them, or by looking at what they leave behind.

hooks.py sees · probes/ judge, one mechanism each · findings.py is what is said · doctor.py holds them together
watch.py runs any program under it, attach/ is how it comes in
"""
