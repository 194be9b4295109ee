"""How good the samples of a prior are: a classifier judges them beside real images."""
