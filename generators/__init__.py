"""The built-in generators: latents in, images out. One file or folder each.

This folder is imported as `ld3m_plugin.generators`. Generators are registered by import path: listing them imports none.
"""

from ld3m_plugin.hookspecs import Register, hookimpl


@hookimpl
def register_generators(register: Register) -> None:
    """Register the built-in generators by import path."""
    register(
        "ld3m",
        "ld3m_plugin.generators.ld3m.ld3m_generator:LD3MGenerator",
        summary="latents and class embeddings of a latent diffusion model (LD3M)",
        options="ld3m_plugin.generators.ld3m.ld3m_options:LD3MOptions",
    )
    register(
        "glad",
        "ld3m_plugin.generators.glad.glad_generator:GLaDGenerator",
        summary="styles and features of StyleGAN-XL (GLaD)",
        options="ld3m_plugin.generators.glad.glad_options:GLaDOptions",
    )
    register(
        "autoencoder",
        "ld3m_plugin.generators.autoencoder:AutoencoderGenerator",
        summary="latents of a prior's autoencoder, without diffusion",
        options="ld3m_plugin.generators.ld3m.ld3m_options:AutoencoderOptions",
    )
    register(
        "pixel",
        "ld3m_plugin.generators.pixel:PixelGenerator",
        summary="the images themselves are learned",
        options="ld3m_plugin.generators.pixel_options:PixelOptions",
    )


@hookimpl
def register_initialisers(register: Register) -> None:
    """Register the initialisers that need a prior."""
    where = "ld3m_plugin.generators.ld3m"
    register(
        "latent-centres",
        f"{where}.latent_centres:LatentCentres",
        summary="k-means centres of the class in the latents of a prior, decoded (D4M without diffusion)",
    )
    register(
        "samples", f"{where}.prior_samples:PriorSamples", summary="samples of a latent diffusion model, class by class"
    )


@hookimpl
def register_priors(register: Register) -> None:
    """Register the kinds of priors that the built-in generators render with."""
    register("ldm", "ld3m_plugin.generators.ld3m.ldm_kind:LatentDiffusionKind", summary="latent diffusion models")
    register("gan", "ld3m_plugin.generators.glad.gan_kind:GanKind", summary="StyleGAN-XL generators")
