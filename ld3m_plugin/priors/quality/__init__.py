"""Quality of a prior's samples: a classifier compares them with real images."""
