"""A run in a folder: configuration, checkpoints, records and results, so that it can stop and go on."""
