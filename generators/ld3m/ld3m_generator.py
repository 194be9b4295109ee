"""The LD3M generator: latents and class embeddings in, images out, through a frozen latent diffusion model.

Source: Moser et al., arXiv:2403.03881, and its published code; where the two differ or the code is wrong, the
description of an option says so. The chain is in `sampler`.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ld3m_plugin.budgets import GIB, weight_bytes
from ld3m_plugin.contracts import Latents, RenderPlan, Task
from ld3m_plugin.devices.transfer import to_device
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.ld3m.cuda_graphs import Replayed, are_possible
from ld3m_plugin.generators.ld3m.ld3m_options import LD3MOptions
from ld3m_plugin.generators.ld3m.ldm_prior import Prior, find_prior, load_prior
from ld3m_plugin.generators.ld3m.memory_plan import Kept, choose, measured
from ld3m_plugin.generators.ld3m.sampler import Sampling, guided, sample
from ld3m_plugin.generators.ld3m.schedule import Chain, make_chain
from ld3m_plugin.generators.ld3m.start import PriorGenerator
from ld3m_plugin.priors.class_matching import rows_of_classes

#: Bytes of activations of a pass up to which it is replayed: of more, computing takes longer than launching, and the second
#: forward pass of a replay costs more than it saves.
MOST_REPLAYED = GIB


class LD3MGenerator(PriorGenerator):
    """Renders `latent` (N, L, h, w), `class_embedding` (N, 1, d) and the fixed `noise` (N, L, h, w); with eta > 0 also the fixed
    `step_noise` (N, T, L, h, w)."""

    Options = LD3MOptions
    _prior: Prior
    _chain: Chain

    def prepare(self, task: Task) -> None:
        """Load the prior on the task's device.

        Raises:
            PriorError: the prior is missing or damaged.
            InvalidOptionError: the image size does not fit, a class has no match, or guidance needs a null class and the prior
                has none.
        """
        options = self.options
        self._check_compile(task)
        self._use(load_prior(find_prior(options.prior, options.revision, task), task.device), task)
        self._compile(self._prior.denoiser, self._prior.codec.model.decoder)
        self._chain = make_chain(self._prior.levels, options.steps, options.spacing)
        guided = options.guidance_scale != 1 and self._prior.class_embedding is not None
        self._null = self._prior.null_embedding if guided else None
        if guided and self._null is None:
            raise InvalidOptionError(
                f"guidance_scale={options.guidance_scale}: the prior has no null class, which guidance needs: use 1"
            )
        self._memory: str = options.memory
        self._replayed = Replayed(self._prior.predict_at), Replayed(self._prior.codec.decode)
        self._kept: tuple[Kept, Kept] | None = None
        if self._prior.class_embedding is not None:
            self._rows = rows_of_classes(task, self._prior.facts, options.class_map, options.unmatched)
            self._provenance["class_embedding_from"] = ", ".join(map(self._class_of, task.class_names, self._rows))
        else:
            self._check_unconditional()
        if self._chain.signal[-1] == 0 and options.residual == "none" and options.learn != "class_embedding":
            raise InvalidOptionError(
                "residual=none: this chain starts from pure noise, so the latents have no effect: use "
                "residual=x0 or mean, spacing=leading, or learn=class_embedding"
            )

    def _class_of(self, name: str, row: int) -> str:
        facts = self._prior.facts
        known = facts.classes[row] if row < len(facts.classes) else None
        return f"{name}: {'unconditional' if known is None else known.wordnet_id or known.name}"

    def _check_unconditional(self) -> None:
        """Reject options about classes: they have no effect on an unconditional prior."""
        given = {
            "learn": self.options.learn == "class_embedding",
            "guidance_scale": self.options.guidance_scale != 1,
            "class_map": self.options.class_map is not None,
            "unmatched": self.options.unmatched != "error",
        }
        for name in (name for name, wrong in given.items() if wrong):
            raise InvalidOptionError(f"{name}={getattr(self.options, name)}: this prior is unconditional: leave it out")

    def initial_latents(self, task: Task, labels: Tensor, rng: torch.Generator) -> Latents:
        """Make `latent` from encoded real images or Gaussians, `class_embedding` of each label, and noise."""
        options = self.options
        latent = self._start_latents(task, labels, rng)
        tensors, learned = {"latent": latent}, set(self.learning_rates())
        if self._prior.class_embedding is not None:
            rows = torch.tensor(self._rows)[labels.cpu()].to(task.device)
            tensors["class_embedding"] = self._prior.class_embedding[rows][:, None].clone()
        tensors["noise"] = torch.randn(latent.shape, generator=rng).to(task.device)
        if options.eta > 0:
            shape = (len(labels), options.steps, *latent.shape[1:])
            tensors["step_noise"] = torch.randn(shape, generator=rng).to(task.device)
        return Latents(tensors, tuple(learned & set(tensors)))

    def render(self, latents: Latents) -> Tensor:
        if self._replays(latents):
            return self._once(self._pictures.images(self._replayed[1](self.denoise(latents))))
        checkpointed = torch.is_grad_enabled() and self.recomputes(latents)
        return self._images(self.denoise(latents), checkpointed)

    def denoise(self, latents: Latents) -> Tensor:
        """Run the chain; returns z_0 (N, L, h, w), before the decoder."""
        start, options = latents["latent"], self.options
        quantised = options.residual_quantized and options.residual == "x0"  # only this residual reads it
        code = sample(
            self._predict_again if self._replays(latents) else self._prior.predict,
            self._sampling(latents),
            start,
            latents["noise"],
            embedding=latents.get("class_embedding"),
            null_embedding=self._null,
            anchor=self._prior.codec.quantise(start) if quantised else start,
            step_noise=latents.get("step_noise"),
        )
        return self._once(code)

    def _predict_again(self, state: Tensor, time: float, embedding: Tensor | None) -> Tensor:
        """As `Prior.predict`, by a CUDA graph."""
        return self._replayed[0](state, torch.full((), time, device=state.device), embedding)

    def _replays(self, latents: Latents) -> bool:
        """Whether the card would wait for launches: by sizes, so that bits do not depend on anything else."""
        if self.options.cuda_graphs == "none" or self._blocks is not None or not are_possible(latents["noise"].device):
            return False
        if any(part.has_failed for part in self._replayed):
            return False
        return all(part.of(len(latents)) <= MOST_REPLAYED for part in self._sizes(latents))

    def _sampling(self, latents: Latents) -> Sampling:
        options = self.options
        checkpointed = torch.is_grad_enabled() and not self._replays(latents) and self.recomputes(latents)
        return Sampling(
            self._chain, options.residual, options.guidance_scale, options.eta, self._exact_steps, checkpointed
        )

    @property
    def _exact_steps(self) -> int:
        steps, gradient = self._chain.steps, self.options.gradient
        return steps if gradient == "full" else min(steps, int(gradient.removeprefix("last-")))

    def plan(self, latents: Latents, rows: int | None) -> RenderPlan:
        """Choose what `memory=auto` is for these latents, and rows to render at a time, see `memory_plan.choose`."""
        if self.options.memory != "auto":
            return RenderPlan()
        self._memory, fitting = self._chosen(latents, rows)
        return RenderPlan({"memory": self._memory}, fitting)

    def recomputes(self, latents: Latents) -> bool:
        memory = self._memory if self._memory != "auto" else self._chosen(latents, None)[0]
        return memory == "checkpoint"

    def _chosen(self, latents: Latents, rows: int | None) -> tuple[Literal["graph", "checkpoint"], int | None]:
        kept = self._sizes(latents)
        return choose(len(latents), rows, self._exact_steps, *kept, self.options.memory_budget * GIB)

    def _sizes(self, latents: Latents) -> tuple[Kept, Kept]:
        """What a pass of the network and of the decoder keep."""
        if self._kept is None:
            model, codec = self._prior.denoiser, self._prior.codec.model
            with self._as_written():  # for sizes of one and two rows, nothing is compiled
                self._kept = (
                    measured(partial(self._one_step, latents), model.parameters()),
                    measured(partial(self._decoded, latents), codec.parameters()),
                )
        return self._kept

    def _one_step(self, latents: Latents, rows: int) -> Tensor:
        """Evaluate the network for rows like the first one, which need gradients."""
        state, embedding = self._like_first(latents, "noise", rows), latents.get("class_embedding")
        embedding = None if embedding is None else self._like_first(latents, "class_embedding", rows)
        scale, time = self.options.guidance_scale, self._chain.timesteps[0]
        return guided(self._prior.predict, scale, self._null, state, time, embedding)

    def _decoded(self, latents: Latents, rows: int) -> Tensor:
        return self._prior.codec.decode(self._like_first(latents, "noise", rows))

    @staticmethod
    def _like_first(latents: Latents, name: str, rows: int) -> Tensor:
        return latents[name].detach()[[0] * rows].requires_grad_()

    def on_step(self, latents: Latents, step: int, rng: torch.Generator) -> Latents:
        """Redraw the noise if the option `noise` is `redrawn`."""
        if self.options.noise == "fixed":
            return latents
        noise = {name: latents[name] for name in ("noise", "step_noise") if name in latents}
        drawn = {name: torch.randn(value.shape, generator=rng) for name, value in noise.items()}
        return latents.replace(**{name: to_device(value, latents["noise"].device) for name, value in drawn.items()})

    def prior_bytes(self) -> int:
        table = self._prior.class_embedding
        return super().prior_bytes() + weight_bytes(self._prior.denoiser) + (0 if table is None else table.nbytes)
