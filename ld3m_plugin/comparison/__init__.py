"""Comparisons: every generator with every objective on equal terms, a process and a run folder for each row, and one table.

    NAME/manifest.json  states/ID.json  rows/LABEL-ID/  logs/LABEL-ID.txt  table.{csv,json,md,tex}  comparison.png

A row is known by what decides its bits and is made from its own settings alone, so rows can be made in any order and number at
a time, stopped, taken from other comparisons, and added later.
"""

from ld3m_plugin import moved

__getattr__ = moved.was_module(__name__)
