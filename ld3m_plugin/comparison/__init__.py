"""Comparisons: the same settings with several generators, a run folder each, and one table."""
