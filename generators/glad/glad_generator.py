"""The GLaD generator: styles and features of a frozen StyleGAN-XL in, images out.

Source: Cazenavette et al., "Generalizing Dataset Distillation via Deep Generative Prior", arXiv:2305.01649, section 3, and its
code. The published code normalises renders with another data set's mean; here one normaliser serves all (`PictureSpace`).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ld3m_plugin.budgets import images_at_once, weight_bytes
from ld3m_plugin.contracts import Generator, Latents, Task
from ld3m_plugin.errors import InvalidOptionError, typed
from ld3m_plugin.generators.glad.glad_options import GLaDOptions
from ld3m_plugin.generators.glad.pretrained import open_network
from ld3m_plugin.generators.glad.stylegan_network import GeneratorNetwork
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.mismatch import check_fits_prior
from ld3m_plugin.priors.class_matching import rows_of_classes
from ld3m_plugin.priors.prior_json import PriorFacts

_CLIP = 10.0  # bound of the first features
_BUDGET = 2.0  # GiB for the first features


class GLaDGenerator(Generator):
    """Renders styles `w` (N, num_ws, w_dim) and, unless `layer` is -1, `features` (N, c, h, h) that enter layer `layer`."""

    Options = GLaDOptions
    _network: GeneratorNetwork
    _pictures: PictureSpace

    def prepare(self, task: Task) -> None:
        """Load the network on the task's device.

        Raises:
            PriorError: there is no such network, or it is damaged.
            InvalidOptionError: a layer out of range, another image size or channels, or a class without match.
        """
        options = self.options
        self._network, facts, self._provenance = open_network(options, task)
        shape = self._network.shape
        if shape.image_size != task.image_size:
            raise InvalidOptionError(
                f"images of {task.image_size} pixels, this network makes {shape.image_size}: give "
                f"{typed('-D', 'image_size', shape.image_size)}, or another network"
            )
        if shape.image_channels != task.channels and {shape.image_channels, task.channels} != {1, 3}:
            raise InvalidOptionError(
                f"images of {task.channels} channels, this network makes {shape.image_channels}: give another network (only "
                "gray and colour convert into each other)"
            )
        check_fits_prior(task, shape.image_channels, None, options.mismatch, "gan")
        depth = len(shape.layers)
        self._layer = shape.half_resolution_layer if options.layer is None else options.layer
        if self._layer >= depth:
            raise InvalidOptionError(
                f"layer={self._layer}, this network has {depth} layers: give 0 to {depth - 1}, or -1 for styles alone"
            )
        self._pictures = PictureSpace(task, shape.image_channels, options.clamp)
        self._rows = self._class_rows(task, facts)

    def _class_rows(self, task: Task, facts: PriorFacts) -> list[int] | None:
        """The row of the network's class embedding for each class of the task; None for styles without classes."""
        options = self.options
        if options.unconditional or not self._network.shape.classes:
            for name, default in (("class_map", None), ("unmatched", "error")):
                if getattr(options, name) != default:
                    raise InvalidOptionError(f"{name} has no effect on styles without classes: leave it out")
            return None
        rows = rows_of_classes(task, facts, options.class_map, options.unmatched, "gan")
        pairs = zip(task.class_names, (facts.classes[row] for row in rows), strict=True)
        self._provenance["styles_from"] = ", ".join(
            f"{name}: {known.wordnet_id or known.name}" for name, known in pairs
        )
        return rows

    def initial_latents(self, task: Task, labels: Tensor, rng: torch.Generator) -> Latents:
        """Draw styles of each row's class, and compute the features that they give.

        Raises:
            InvalidOptionError: `init=avg_w` with several images a class, which would all be the same, or with truncation.
        """
        styles = self._styles(labels, rng)
        ws = self._network.broadcast(styles).clone()
        if self._layer < 0:
            return Latents({"w": ws}, learned=("w",))
        return Latents({"features": self._features(ws, rng), "w": ws}, learned=("features", "w"))

    @torch.no_grad()
    def _styles(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        options, mapping = self.options, self._network.mapping
        device, shape = mapping.w_avg.device, self._network.shape
        if self._rows is not None:
            rows = torch.tensor(self._rows)[labels.cpu()]
        else:
            rows = torch.randint(max(1, shape.classes), (len(labels),), generator=rng)
        if options.init == "avg_w":
            if options.truncation != 1:
                raise InvalidOptionError("init=avg_w is the mean style already: leave out truncation")
            if int(labels.bincount().max()) > 1:
                raise InvalidOptionError(
                    "init=avg_w makes all images of a class the same: give 1 image a class, or init=sampled"
                )
            return mapping.w_avg[rows.to(device)] if shape.classes else mapping.w_avg.expand(len(labels), -1)
        z = torch.randn(len(labels), shape.z_dim, generator=rng).to(device)
        return mapping(z, rows.to(device), options.truncation)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _features(self, ws: Tensor, rng: torch.Generator) -> Tensor:
        enter = partial(self._network.synthesis.features, layer=self._layer)
        size = images_at_once(enter, ws[:1], _BUDGET)
        # As published: under one learning rate, a few outliers would dominate.
        features = torch.cat([enter(some) for some in ws.split(size)]).nan_to_num(0.0).clamp(-_CLIP, _CLIP)
        if self.options.random_features:
            drawn = torch.randn(features.shape, generator=rng).to(features.device)
            features = (drawn * features.std() + features.mean()).clamp(-_CLIP, _CLIP)
        return features.contiguous()

    def render(self, latents: Latents) -> Tensor:
        features = latents.get("features")
        layer = 0 if features is None else self._layer
        return self._pictures.images(self._network.synthesis(latents["w"], features, layer).float())

    def start(self) -> str:
        return "prior"

    def prior_bytes(self) -> int:
        return weight_bytes(self._network)

    def provenance(self) -> dict[str, str]:
        return self._provenance
