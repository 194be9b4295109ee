"""Priors: the pre-trained models that generators render with.

- `contract`, `service`: the contract of a kind of prior; training, converting and describing priors of any kind
- `prior_json`, `classes`, `class_matching`: facts beside the weights, names of classes, matching them with the task's
- `training`: updates, saved states, samples and report, shared by all kinds
- `quality`: measuring samples
"""

from ld3m_plugin import moved

__getattr__ = moved.was_module(__name__)
