"""The learner's project: its folder, its plan, what the screen and the notebook show, the words."""
