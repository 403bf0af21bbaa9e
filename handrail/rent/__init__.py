"""Renting: the same command on a bigger machine, by one of four ways. Nothing that costs money starts without a person's yes."""
