"""What the kinds of priors share: how one is trained and reported, and how its classes are found.

- `phase`: updates, weight average, a state to go on from; `batches`: real images; `origin`: what a stopped training is known by
- `options`: of every training; `report`: samples and how good they are
- `facts`: what a prior folder says beside its weights; `conditioning`: the task's classes in the prior's words
"""
