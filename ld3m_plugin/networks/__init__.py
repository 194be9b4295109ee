"""The built-in classifiers, of images (N, C, H, W).

This module only registers them by name: listing plugins must not import torch.
"""

from __future__ import annotations

from ld3m_plugin.hookspecs import Register, hookimpl


@hookimpl
def register_networks(register: Register) -> None:
    """Register the five classifiers of the dataset distillation literature, and four cheap ones of other kinds."""
    where = "ld3m_plugin.networks"
    register("ConvNet", f"{where}.convnet:ConvNet", summary="blocks of 3x3 convolution, norm, activation and pooling")
    register("AlexNet", f"{where}.alexnet:AlexNet", summary="five convolutions without normalisation")
    register("VGG11", f"{where}.vgg:VGG11", summary="eight 3x3 convolutions with instance norm")
    register("ResNet18", f"{where}.resnet:ResNet18", summary="residual network with a 3x3 stem and instance norm")
    register("ViT", f"{where}.vit:ViT", summary="vision transformer on 16x16 patches, without layer norm")
    register("MLP", f"{where}.mlp:MLP", summary="two hidden layers of 256 units on pixels")
    register("SmallViT", f"{where}.small_networks:SmallViT", summary="ViT of 16 patches, 64 features and three layers")
    register(
        "MaxConvNet",
        f"{where}.small_networks:MaxConvNet",
        summary="ConvNet with max pooling and without norm, width 32",
    )
    register(
        "ResNet8", f"{where}.small_networks:ResNet8", summary="residual network of three blocks, 16 to 64 channels"
    )
