"""Options of the GLaD generator, each with its source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ld3m_plugin.generators.picture_options import MISMATCH, Clamp, ClassMap, Mismatch
from ld3m_plugin.options import GrownOptions, Place, RatedOptions

_NAMES = Place(frozenset({"embedded", "embedded-gan", "embedded-emoji-gan", "imagenet-128", "imagenet-256"}))


class GLaDOptions(GrownOptions, RatedOptions):
    """Options of the GLaD generator."""

    added = frozenset({"mismatch"})

    network: Annotated[str, _NAMES] = Field(
        "embedded",
        description="the prior: `embedded` (shipped: the one that was trained on the data set, else Fashion-MNIST's) or a "
        "folder (`ld3m prior convert NETWORK.pkl FOLDER` makes one); with weights=random also imagenet-128 or imagenet-256, the "
        "official sizes",
    )
    layer: int | None = Field(
        None,
        ge=-1,
        description="layer that the learned features enter, counted from 0; -1: learn styles alone. Default: the second "
        "one that features of half of the image's resolution enter. Published for 128 pixels (26 layers): DC 16 (the "
        "default there), DM 20, MTT 12",
    )
    init: Literal["sampled", "avg_w"] = Field(
        "sampled",
        description="first styles: of one random vector an image, or the mean style of the class, which makes all images of a "
        "class the same (published for 1 image a class)",
    )
    random_features: bool = Field(
        False, description="start features from Gaussian noise with the mean and deviation of the network's own"
    )
    truncation: float = Field(
        1.0, ge=0, le=1, description="psi of the first styles: 1 as drawn (published), 0 the mean of the class"
    )
    weights: Literal["trained", "random"] = Field(
        "trained", description="weights of the network, or random ones in the same architecture (GLaD's ablation)"
    )
    weights_seed: int = Field(0, ge=0, lt=2**63, description="seed of random weights")
    unconditional: bool = Field(
        False,
        description="styles do not depend on the class (GLaD's ablation): a network with classes draws one for each image",
    )
    clamp: Clamp = Field(
        "straight-through",
        description="keep rendered pixels in [0, 1]: clamp and pass the gradient on; clamp and stop the gradient of saturated "
        "pixels; or do not clamp (published)",
    )
    class_map: ClassMap | None = Field(
        None,
        description="file (YAML, JSON) or mapping: class of the task -> class of the prior (name or WordNet id)",
    )
    unmatched: str = Field(
        "error", description="for a class that the prior does not have: error, or the class of the prior to start from"
    )
    mismatch: Mismatch = MISMATCH

    def learning_rates(self) -> dict[str, float]:
        # For Adam, whose step size does not depend on the objective's gradients; tuned on the embedded network.
        return {"w": 0.05} if self.layer == -1 else {"features": 0.05, "w": 0.01}
