"""Priors: the pre-trained models that generators render with.

- `contract`, `service`: what a kind of prior provides, and finding, training, converting and describing priors by kind
- `prior_json`, `classes`, `class_matching`: facts beside the weights, names of classes, the task's classes in the prior's words
- `training`: updates, states to resume from, samples and report, shared by all kinds
- `quality`: how good samples are
"""
