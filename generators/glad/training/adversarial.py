"""The losses of generator and discriminator, from one render.

Source: Goodfellow et al., "Generative Adversarial Nets", NIPS 2014 (non-saturating loss); Mescheder, Geiger and Nowozin, "Which
Training Methods for GANs do actually Converge?", ICML 2018 (R1), every few updates as in StyleGAN2; Sauer et al., StyleGAN-XL,
section 3.4 (classifier guidance); Zhao and Bilen, DSA (the same operation on real and generated images).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ld3m_plugin.augmentation import DSA
from ld3m_plugin.contracts import Network
from ld3m_plugin.generators.glad.stylegan_network import GeneratorNetwork
from ld3m_plugin.generators.glad.training.discriminator import Discriminator
from ld3m_plugin.generators.glad.training.gan_training_options import GanTrainingOptions
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.priors.training.batches import RealBatches


class Adversaries(nn.Module):
    """Generator and discriminator, updated together."""

    def __init__(self, generator: GeneratorNetwork, discriminator: Discriminator) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator


class AdversarialLoss:
    """The sum of both networks' losses; the gradient of each reaches its own network alone.

    Args:
        guide: a frozen classifier of normalised images, or None.
        space: converts generated pictures to normalised images.
    """

    def __init__(
        self, batches: RealBatches, guide: Network | None, space: PictureSpace, options: GanTrainingOptions
    ) -> None:
        self._batches, self._guide, self._space, self._options = batches, guide, space, options
        self._dsa = DSA(options.augment)

    def __call__(self, model: nn.Module, rng: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(model, Adversaries)  # noqa: S101 (for the type checker)
        real, classes = self._batches.draw(rng)
        z = torch.randn(len(real), model.generator.shape.z_dim, generator=rng).to(real.device)
        penalised = int(torch.randint(self._options.r1_every, (), generator=rng)) == 0 and self._options.r1 > 0
        draw = self._dsa.draw(real.shape, rng, siamese=False)
        fake = model.generator(z, classes)
        generator_loss, values = self._generator_loss(model.discriminator, fake, classes, draw)
        seen = self._dsa.apply(real, draw).detach().requires_grad_(penalised)
        on_real = model.discriminator(seen, classes)
        on_fake = model.discriminator(self._dsa.apply(fake.detach(), draw), classes)
        loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        values |= {"real": float(on_real.detach().mean()), "fake": float(on_fake.detach().mean())}
        if penalised:
            (slope,) = torch.autograd.grad(on_real.sum(), seen, create_graph=True)
            penalty = slope.square().sum((1, 2, 3)).mean()
            loss = loss + self._options.r1 / 2 * self._options.r1_every * penalty
        return loss + generator_loss, values

    def _generator_loss(
        self, discriminator: Discriminator, fake: Tensor, classes: Tensor, draw: object
    ) -> tuple[Tensor, dict[str, float]]:
        # Detached weights: the generator's loss must not train the discriminator.
        frozen = {name: tensor.detach() for name, tensor in discriminator.named_parameters()}
        logits = functional_call(discriminator, frozen, (self._dsa.apply(fake, draw), classes))  # type: ignore[arg-type]
        loss = F.softplus(-logits).mean()
        values = {"generator": float(loss.detach())}
        if self._guide is not None:
            error = F.cross_entropy(self._guide(self._space.images(fake)), classes)
            values["guide"] = float(error.detach())
            loss = loss + self._options.guide * error
        return loss, values
