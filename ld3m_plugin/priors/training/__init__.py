"""The parts that trainings of all kinds of priors share: batches, updates, resumable states, samples and report."""
