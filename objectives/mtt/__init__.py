"""Matching training trajectories (MTT), and the store of expert trajectories it reads."""
