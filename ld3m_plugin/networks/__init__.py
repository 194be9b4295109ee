"""The built-in classifiers, registered by name. Importing this module imports no torch: listing plugins stays quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ld3m_plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from ld3m_plugin.hookspecs import Register


@hookimpl
def register_networks(register: Register) -> None:
    """The five classifiers that dataset distillation is measured with."""
    where = "ld3m_plugin.networks"
    register("ConvNet", f"{where}.convnet:ConvNet", summary="blocks of 3x3 convolution, norm, activation and pooling")
    register("AlexNet", f"{where}.alexnet:AlexNet", summary="five convolutions without normalisation")
    register("VGG11", f"{where}.vgg:VGG11", summary="eight 3x3 convolutions with instance norm")
    register("ResNet18", f"{where}.resnet:ResNet18", summary="residual network with a 3x3 stem and instance norm")
    register("ViT", f"{where}.vit:ViT", summary="vision transformer on 16x16 patches, without layer norm")
