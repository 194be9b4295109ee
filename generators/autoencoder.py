"""The autoencoder generator: decodes latents with a prior's decoder, without diffusion.

Source: Duan et al., "Dataset Distillation in Latent Space", arXiv:2311.15547. It is the control in LD3M's Table 6:
with a denoiser that outputs zero, LD3M with the x0 residual renders the same images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ld3m_plugin.contracts import Latents, Task
from ld3m_plugin.generators.ld3m.ld3m_options import AutoencoderOptions
from ld3m_plugin.generators.ld3m.ldm_prior import find_prior, load_autoencoder
from ld3m_plugin.generators.ld3m.start import PriorGenerator


class AutoencoderGenerator(PriorGenerator):
    """Renders `latent` (N, L, h, w)."""

    Options = AutoencoderOptions

    def prepare(self, task: Task) -> None:
        """Load the prior's autoencoder on the task's device; raises the same errors as the LD3M generator."""
        self._check_compile(task)
        self._use(load_autoencoder(find_prior(self.options.prior, self.options.revision, task), task.device), task)
        self._compile(self._prior.codec.model.decoder)

    def initial_latents(self, task: Task, labels: Tensor, rng: torch.Generator) -> Latents:
        """Make `latent` from encoded real images or from Gaussians."""
        return Latents({"latent": self._start_latents(task, labels, rng)}, learned=("latent",))

    def render(self, latents: Latents) -> Tensor:
        return self._images(latents["latent"])
