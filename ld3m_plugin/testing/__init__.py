"""The contract suite: tests that every backend must pass, in this project and in plugins.

    from ld3m_plugin.testing import check_generator, check_objective, tiny_task

    def test_my_generator():
        check_generator(lambda: MyGenerator(size=4))

Each function raises `AssertionError` with a message that states the broken rule. Without a task, `check_generator`,
`check_objective` and `check_initialiser` check on gray images and then in colour.
"""

from ld3m_plugin.testing.dataset_suite import check_dataset
from ld3m_plugin.testing.generator_suite import check_generator, check_initialiser
from ld3m_plugin.testing.network_suite import check_network
from ld3m_plugin.testing.objective_suite import check_objective
from ld3m_plugin.testing.prior_suite import check_prior
from ld3m_plugin.testing.tiny_task import RandomImages, tiny_task
from ld3m_plugin.testing.tracker_suite import check_tracker

__all__ = [
    "RandomImages",
    "check_dataset",
    "check_generator",
    "check_initialiser",
    "check_network",
    "check_objective",
    "check_prior",
    "check_tracker",
    "tiny_task",
]
