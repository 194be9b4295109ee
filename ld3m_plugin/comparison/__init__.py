"""Comparisons: the same settings with several generators, a run folder for each, and one table.

    NAME/ld3m/  NAME/pixel/ ...  NAME/random-real.json  NAME/comparison.json  NAME/comparison.png

Every row of the table has a record of its own: a run folder for each generator, and `random-real.json` for random real images.
A row is made from its own settings alone, so rows can be made in any order, stopped, and added later.
"""

from ld3m_plugin import moved

__getattr__ = moved.was_module(__name__)
