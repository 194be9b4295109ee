"""Matching training trajectories (MTT): the objective, its experts, and the commands that make them."""

from pathlib import Path

#: Environment variable that names the folder of experts, and the folder used without it.
FOLDER_VARIABLE, FOLDER = "LD3M_EXPERTS", Path("experts")
