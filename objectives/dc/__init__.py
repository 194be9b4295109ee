"""Gradient matching (DC): the distances between gradients, the gradients themselves, and the objective."""
