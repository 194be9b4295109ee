"""A training recipe for evaluations: `--protocol example-short`."""

from ld3m_plugin.evaluation import Protocol

SHORT = Protocol(
    name="example-short",
    summary="five epochs of the example's network",
    source="an example",
    networks=("ExampleMLP",),
    network_settings={"ExampleMLP": {"hidden": 16}},
    repeats=1,
    epochs=5,
    batch_size=8,
    learning_rate=0.05,
    dsa="fade_flip",
)
