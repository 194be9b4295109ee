"""Options of the GLaD generator, each with its source."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ld3m_plugin.contracts import Options


class GLaDOptions(Options):
    """Options of the GLaD generator."""

    network: str = Field(
        "embedded",
        description="the prior: `embedded` (shipped, Fashion-MNIST) or a folder (`ld3m prior convert NETWORK.pkl FOLDER` makes "
        "one); with weights=random also imagenet-128 or imagenet-256, the official sizes",
    )
    layer: int | None = Field(
        None,
        ge=-1,
        description="features are learned from this layer on, counted from 0; -1: styles alone. Default: as deep as DC's at "
        "ImageNet size. Published for 128 pixels (26 layers): DC 16, DM 20, MTT 12",
    )
    init: Literal["sampled", "avg_w"] = Field(
        "sampled",
        description="styles of a random vector each, or the mean style of the class, with which all images of a class are the "
        "same (published for 1 image a class)",
    )
    random_features: bool = Field(
        False, description="features start from Gaussians of the same mean and deviation, not from the network's own"
    )
    truncation: float = Field(
        1.0, ge=0, le=1, description="psi of the initial styles: 1 as drawn (published), 0 the class's mean"
    )
    weights: Literal["trained", "random"] = Field(
        "trained", description="the network's own, or random ones in the same architecture (GLaD's ablation)"
    )
    weights_seed: int = Field(0, ge=0, lt=2**63, description="of random weights")
    unconditional: bool = Field(
        False,
        description="styles know nothing of the class (GLaD's ablation): a network with classes takes one at random for each row",
    )
    clamp: Literal["straight-through", "hard", "none"] = Field(
        "straight-through",
        description="how rendered pixels are kept in [0, 1]: clamp and pass the gradient on; clamp and stop the gradient of "
        "saturated pixels; or leave them (published)",
    )
    class_map: Path | None = Field(
        None, description="YAML or JSON file: class of the task -> class of the prior (name or WordNet id)"
    )
    unmatched: str = Field(
        "error", description="a class the prior does not know: error, or the class of the prior to start from"
    )
