"""What contracts share: options, and for generators and objectives state and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from ld3m_plugin.options import BackendOptions, build


class WithOptions:
    """Options in the constructor: a model, or keywords that make one."""

    Options: ClassVar[type[BackendOptions]] = BackendOptions

    def __init__(self, options: BackendOptions | None = None, **keywords: Any) -> None:
        if options is None:
            options = build(self.Options, keywords, type(self).__name__)
        self.options: Any = options

    def __repr__(self) -> str:
        """A line: the class, and the options that are not the default ones."""
        chosen = self.options.model_dump(exclude_defaults=True) if hasattr(self, "options") else {}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in chosen.items())})"


class StatefulBackend(WithOptions):
    """State and provenance, which generators and objectives share."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that changes during a run, as tensors, so that a stopped run goes on bit for bit."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave; called after `prepare`."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, got {sorted(state)}")

    def provenance(self) -> dict[str, str]:
        """More facts for the artefact's metadata, such as a prior and its digest."""
        return {}
