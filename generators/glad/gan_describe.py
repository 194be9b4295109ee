"""Facts about a GAN prior for `ld3m prior info`."""

from __future__ import annotations

from pathlib import Path

from ld3m_plugin.generators.glad.gan_folder import digest, load_network


def describe(path: Path) -> dict[str, str]:
    """Facts by title: layout, resolution, styles, classes, parameters, digest, source, licence.

    Raises:
        PriorError: the folder is not a complete prior; the weights are read too.
    """
    network, facts = load_network(path)
    shape = network.shape
    mapping, synthesis = (sum(p.numel() for p in part.parameters()) for part in (network.mapping, network.synthesis))
    names = [known.name for known in facts.classes]
    shown = f": {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}" if names else " without names"
    widths = ", ".join(f"{layer.out_channels}x{layer.out_size}" for layer in shape.layers)
    channels = f"{shape.image_channels} channel{'s' * (shape.image_channels != 1)}"
    return {
        "layout": f"StyleGAN-XL, {len(shape.layers)} layers: {widths}",
        "resolution": f"{shape.image_size}x{shape.image_size}, {channels}",
        "styles": f"{shape.num_ws} of {shape.w_dim} numbers, from random vectors of {shape.z_dim}",
        "classes": f"{shape.classes}{shown}" if shape.classes else "none (unconditional)",
        "parameters": f"{mapping:,} mapping, {synthesis:,} synthesis",
        "sha256": digest(path),
        "source": facts.source,
        "licence": facts.licence or "not stated",
    }
