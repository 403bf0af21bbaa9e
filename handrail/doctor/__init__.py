"""The doctor: finds silent mistakes of training programs, by watching them or what they saved.

One way through it: hooks (hooks.py) → one record per update (record.py) → probes/ → findings.py,
in the words of catalogue.toml → the screen. doctor.py connects them. watch.py runs any program
under it, saved.py looks at saved models. It is a package of its own: it needs torch, and nothing of
handrail.
"""
