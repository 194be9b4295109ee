"""Matching training trajectories (MTT): the unroll, where experts come from, and the objective."""
