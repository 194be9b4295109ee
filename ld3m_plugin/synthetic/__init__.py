"""The library in loops of a caller."""
