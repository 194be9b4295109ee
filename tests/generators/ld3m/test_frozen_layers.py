"""Shorter forms of frozen layers against diffusers' own forward pass."""

import pytest
import torch

from ld3m_plugin.errors import UsageError
from ld3m_plugin.generators.ld3m.frozen_layers import GatedGELU, copied, is_short, own_pass, shorten
from ld3m_plugin.generators.ld3m.short_unet import shorten_unet, takes_copies
from ld3m_plugin.randomness import lent_to_global, stream

#: Bounds of the relative difference, by precision; float32 is rounded in another order.
BOUNDS = {torch.float64: 1e-13, torch.float32: 2e-5}


def conditional(**settings):
    import diffusers

    kinds = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
    kinds["up_block_types"] = ("CrossAttnUpBlock2D", "UpBlock2D")
    sizes = {"sample_size": 4, "in_channels": 3, "out_channels": 3, "norm_num_groups": 4, "layers_per_block": 1}
    sizes |= {"block_out_channels": (8, 16), "cross_attention_dim": 6, "attention_head_dim": 2}
    with lent_to_global(stream(0, "short")):
        return diffusers.UNet2DConditionModel(**{**kinds, **sizes, **settings}).eval().requires_grad_(False)


def draw(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=stream(0, str(shape)), dtype=dtype)


def with_gradients(call, *inputs):
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    output = call(*leaves)
    direction = draw(*output.shape).to(output.dtype)
    return output.detach(), *torch.autograd.grad(output, leaves, direction)


def assert_close(found, wanted, dtype):
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() <= BOUNDS[dtype] * other.norm()


SETTINGS = [
    {},
    {"use_linear_projection": True},
    {"resnet_out_scale_factor": 1.5, "center_input_sample": True, "time_embedding_act_fn": "silu"},
    {"down_block_types": ("CrossAttnDownBlock2D",) * 2, "up_block_types": ("CrossAttnUpBlock2D",) * 2},
    {"transformer_layers_per_block": 2, "conv_in_kernel": 1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_a_conditional_unet_gives_the_same_outputs_and_gradients(settings, dtype):
    unet = conditional(**settings).to(dtype)
    states, tokens = draw(2, 3, 4, 4).to(dtype), draw(2, 1, 6).to(dtype)
    wanted = with_gradients(lambda z, c: unet(z, 7, c).sample, states, tokens)
    shorten_unet(unet)
    assert takes_copies(unet)
    assert_close(with_gradients(lambda z, c: unet(z, 7, c).sample, states, tokens), wanted, dtype)


@pytest.mark.parametrize("settings", SETTINGS[:4:3], ids=str)
def test_states_that_guidance_has_twice_are_computed_once(settings):
    unet = conditional(**settings).double()
    states, tokens = draw(2, 3, 4, 4), draw(6, 1, 6)
    wanted = with_gradients(lambda z, c: unet(torch.cat([z, z, z]), 7, c).sample, states, tokens)
    shorten_unet(unet)
    seen = []
    unet.down_blocks[0].resnets[0].register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    assert_close(with_gradients(lambda z, c: unet(z, 7, c).sample, states, tokens), wanted, torch.float64)
    assert seen == [2]


def test_the_class_reaches_the_output_through_one_vector_a_block():
    unet = conditional()
    shorten_unet(unet)
    blocks = [block for part in unet.mid_block.attentions for block in part.transformer_blocks]
    for block in blocks:  # what the softmax over one key makes useless
        for layer in (block.attn2.to_q, block.attn2.to_k, block.norm2):
            layer.weight.fill_(torch.nan)
    assert unet(draw(2, 3, 4, 4).float(), 7, draw(2, 1, 6).float()).sample.isfinite().all()


@pytest.mark.parametrize(
    ("shape", "tokens", "time"), [((2, 3, 4, 4), 2, 7), ((2, 3, 5, 5), 1, 7), ((2, 3, 4, 4), 1, torch.tensor([7, 8]))]
)
def test_other_calls_are_diffusers_own(shape, tokens, time):
    unet = conditional()
    given = draw(*shape).float(), time, draw(2, tokens, 6).float()
    wanted = unet(*given).sample
    shorten_unet(unet)
    found = unet(*given).sample
    assert (found - wanted).norm() <= 1e-6 * wanted.norm()


@pytest.mark.parametrize("settings", [{"resnet_time_scale_shift": "scale_shift"}, {"only_cross_attention": True}])
def test_a_unet_of_other_layers_keeps_its_own_pass(settings):
    unet = conditional(**settings)
    given = draw(2, 3, 4, 4).float(), 7, draw(2, 1, 6).float()
    wanted = unet(*given).sample
    shorten_unet(unet)
    assert not takes_copies(unet)
    found = unet(*given).sample
    assert (found - wanted).norm() <= 1e-6 * wanted.norm()


@pytest.mark.parametrize("cls", ["AutoencoderKL", "VQModel"])
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_an_autoencoder_gives_the_same_pictures_and_gradients(small_autoencoder, cls, dtype):
    model = small_autoencoder(cls, block_out_channels=(4, 8)).to(dtype).eval().requires_grad_(False)
    code = draw(2, 3, 4, 4).to(dtype)
    wanted = with_gradients(lambda z: model.decode(z).sample, code)
    names = list(model.state_dict())
    shorten(model)
    assert_close(with_gradients(lambda z: model.decode(z).sample, code), wanted, dtype)
    assert list(model.state_dict()) == names


def test_sums_of_weights_follow_a_change_of_precision(small_autoencoder):
    model = small_autoencoder().eval().requires_grad_(False)
    (layer,) = (module for module in model.modules() if type(module).__name__ == "Upsample2D")
    shorten(model)
    layer(draw(1, 4, 2, 2).float())  # the sums are made in float32
    states = draw(1, 4, 2, 2)
    layer.double()
    assert_close([layer(states)], [own_pass(layer)(states)], torch.float64)
    layer.conv.weight.mul_(2)
    assert_close([layer(states)], [own_pass(layer)(states)], torch.float64)


def test_no_gradient_of_a_weight_is_kept_for():
    unet = conditional()
    shorten_unet(unet)
    weights = {weight.untyped_storage().data_ptr() for weight in unet.parameters()}
    output = unet(draw(2, 3, 4, 4).float().requires_grad_(), 7, draw(2, 1, 6).float().requires_grad_()).sample
    seen, left = set(), [output.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [other for other, _ in node.next_functions]
    leaves = [node.variable for node in seen if hasattr(node, "variable")]
    assert len(leaves) == 2
    assert not {leaf.untyped_storage().data_ptr() for leaf in leaves} & weights


def test_the_gated_gelu_has_the_derivatives_of_its_formula():
    value, gate = draw(3, 5).requires_grad_(), draw(5, 3).T.requires_grad_()
    assert torch.autograd.gradcheck(GatedGELU.apply, (value, gate))
    with pytest.raises(UsageError, match="create_graph"):
        torch.autograd.grad(GatedGELU.apply(value, gate).sum(), gate, create_graph=True)


def test_copies_come_in_turn():
    states = torch.arange(4.0).view(2, 2)
    assert copied(states, 4).tolist() == [[0, 1], [2, 3], [0, 1], [2, 3]]
    assert copied(states, 2) is states
    assert not is_short(torch.nn.Linear(1, 1))
