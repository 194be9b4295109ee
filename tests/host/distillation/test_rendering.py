"""The pull-back: one graph and chunks of any size give the gradient of plain autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ld3m_plugin.contracts import Generator, Latents
from ld3m_plugin.distillation.rendering import render, render_with_pull_back
from ld3m_plugin.errors import HostError
from ld3m_plugin.randomness import stream


class TwoLatents(Generator):
    """Two learned latents and a fixed one, mixed without linearity; two images a row."""

    images_per_latent = 2
    renders = 0

    def initial_latents(self, task, labels, rng):
        raise AssertionError("not needed here")

    def render(self, latents):
        self.renders += len(latents)
        first = latents["shape"].tanh() * latents["gain"].view(-1, 1, 1, 1) + latents["noise"]
        second = latents["shape"].sin() * latents["gain"].view(-1, 1, 1, 1) ** 2
        return torch.stack([first, second], dim=1).flatten(0, 1)


def latents(rows):
    rng = stream(0, "latents", rows)
    tensors = {
        "shape": torch.randn(rows, 1, 4, 4, generator=rng, dtype=torch.float64),
        "gain": torch.randn(rows, generator=rng, dtype=torch.float64),
        "noise": torch.randn(rows, 1, 4, 4, generator=rng, dtype=torch.float64),
    }
    return Latents(tensors, learned=("shape", "gain"))


def plain_gradient(generator, start, image_grad):
    leaves = start.detach(requires_grad=True)
    total = (generator.render(leaves) * image_grad).sum()
    return dict(zip(("gain", "shape"), torch.autograd.grad(total, [leaves["gain"], leaves["shape"]]), strict=True))


@settings(max_examples=40)
@given(st.integers(1, 7), st.one_of(st.none(), st.integers(1, 9)))
def test_any_chunk_gives_the_gradient_of_the_plain_graph(rows, chunk):
    generator, start = TwoLatents(), latents(rows)
    image_grad = torch.randn(2 * rows, 1, 4, 4, generator=stream(1, "grad"), dtype=torch.float64)
    rendering = render_with_pull_back(generator, start, chunk)
    gradients = rendering.pull_back(image_grad)
    expected = plain_gradient(generator, start, image_grad)
    assert set(gradients) == {"shape", "gain"}
    for name, value in expected.items():
        # The boundary is float32, so a chunk's gradient passes through it as the plain one does not.
        torch.testing.assert_close(gradients[name], value, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(rendering.images.detach(), generator.render(start).float())


@pytest.mark.parametrize(("chunk", "renders"), [(None, 6), (6, 6), (99, 6), (1, 12), (4, 12)])
def test_rows_are_rendered_once_unless_chunks_ask_for_it(chunk, renders):
    generator = TwoLatents()
    rendering = render_with_pull_back(generator, latents(6), chunk)
    rendering.pull_back(torch.ones_like(rendering.images))
    assert generator.renders == renders


@pytest.mark.parametrize(("chunk", "renders"), [(None, 6), (1, 6), (4, 6)])
def test_graphs_of_all_chunks_are_kept_where_the_generator_recomputes(chunk, renders):
    class Recomputes(TwoLatents):
        def recomputes(self, latents):
            return True

    generator, start = Recomputes(), latents(6)
    rendering = render_with_pull_back(generator, start, chunk)
    image_grad = torch.randn(12, 1, 4, 4, generator=stream(1, "grad"))
    gradients = rendering.pull_back(image_grad)
    assert generator.renders == renders
    plain = render_with_pull_back(TwoLatents(), start, chunk)
    assert torch.equal(rendering.images, plain.images)
    for name, value in plain.pull_back(image_grad).items():
        assert torch.equal(gradients[name], value), name


def test_chunks_keep_no_graph_of_more_than_one_chunk():
    # Without a graph the images of a chunked rendering are a leaf made under no_grad: nothing is saved for backward.
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        render_with_pull_back(TwoLatents(), latents(6), 2)
        assert not saved
        render_with_pull_back(TwoLatents(), latents(6), None)
        assert saved


def test_render_has_no_graph():
    assert not render(TwoLatents(), latents(2)).requires_grad


def test_wrong_number_of_images_names_the_generator():
    class Halves(TwoLatents):
        images_per_latent = 1

    with pytest.raises(HostError, match=r"Halves.*\(4, 1, 4, 4\)"):
        render(Halves(), latents(2))


@pytest.mark.parametrize(("used", "named"), [("shape", "gain"), ("noise", "gain, shape")])
@pytest.mark.parametrize("chunk", [None, 1])
def test_learned_latent_without_a_path_to_the_images_is_named(used, named, chunk):
    class Forgets(TwoLatents):
        def render(self, latents):
            return latents[used].repeat_interleave(2, 0)

    rendering = render_with_pull_back(Forgets(), latents(2), chunk)
    with pytest.raises(HostError) as raised:
        rendering.pull_back(torch.ones_like(rendering.images))
    assert str(raised.value).endswith(f" {named}")
