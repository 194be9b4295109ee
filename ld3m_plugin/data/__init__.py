"""The built-in data sets: uint8 images (C, H, W), RGB or one grey channel.

This module only registers them by name: listing plugins must not import torch, numpy or Pillow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ld3m_plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from ld3m_plugin.hookspecs import Register


@hookimpl
def register_datasets(register: Register) -> None:
    """Register the built-in data sets of `load_task` and `--data`."""
    images = "ld3m_plugin.images.image_options"
    register(
        "fashion-mnist",
        "ld3m_plugin.data.fashion_mnist:load",
        summary="Fashion-MNIST: the full set where it is found, else the embedded subset; or :full, :embedded",
        options=f"{images}:ImageOptions",
    )
    register(
        "emoji",
        "ld3m_plugin.data.emoji:load",
        summary="Emoji drawings in six styles, in colour, 64x64, embedded: task=main (ten classes), ..., all (40 categories)",
        options="ld3m_plugin.data.emoji_options:EmojiOptions",
    )
    register(
        "cifar10",
        "ld3m_plugin.data.cifar:load_cifar10",
        summary="CIFAR-10 from torchvision's folder",
        options=f"{images}:ImageOptions",
    )
    register(
        "cifar100",
        "ld3m_plugin.data.cifar:load_cifar100",
        summary="CIFAR-100 from torchvision's folder",
        options=f"{images}:ImageOptions",
    )
    register(
        "imagefolder",
        "ld3m_plugin.data.imagefolder:load",
        summary="imagefolder:PATH, one folder a class, in train/ and val/ or test/ or in one tree with a seeded split",
        options=f"{images}:FolderOptions",
    )
    register(
        "imagenet",
        "ld3m_plugin.data.imagenet:load",
        summary="imagenet:SUBSET (a, b, c, d, e, nette, woof, birds, fruits, cats) of an ImageNet folder",
        options=f"{images}:FileOptions",
    )
