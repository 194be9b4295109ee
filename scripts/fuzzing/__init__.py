"""Hostile inputs of `scripts/fuzz.py`: plans (hypothesis), damage to files, kinds of inputs, a guard, a worker."""
