"""A plugin for ld3m-plugin: the hooks. Backends are named as text, so that listing plugins imports no torch."""

from ld3m_plugin import hookimpl

#: The version of hooks and contracts this plugin is written for; a host with an older one refuses it by name.
api_version = 1


@hookimpl
def register_generators(register):
    register("example-upsample", "ld3m_example.backends:Upsample", summary="small images, enlarged bilinearly")


@hookimpl
def register_objectives(register):
    register("example-moments", "ld3m_example.backends:Moments", summary="mean and square of each pixel, by class")


@hookimpl
def register_initialisers(register):
    register("example-median", "ld3m_example.initialisers:Median", summary="the median of each pixel over the class")


@hookimpl
def register_datasets(register):
    register("example-stripes", "ld3m_example.data:load_stripes", summary="noisy stripes, a direction a class")


@hookimpl
def register_networks(register):
    register("ExampleMLP", "ld3m_example.networks:MLP", summary="one hidden layer on pixels")


@hookimpl
def register_augmentations(register):
    register("fade", "ld3m_example.augmentations:Fade", summary="images times a number from [0.5, 1]")


@hookimpl
def register_protocols(register):
    register("example-short", "ld3m_example.protocols:SHORT", summary="five epochs of the MLP under `fade`")


@hookimpl
def register_trackers(register):
    register("example-csv", "ld3m_example.trackers:CsvTracker", summary="a table of losses in the run folder")


@hookimpl
def register_launchers(register):
    register("nice", "ld3m_example.launchers:NiceLauncher", summary="processes on this machine that give way to others")


@hookimpl
def register_commands(register):
    register("example-count", "ld3m_example.commands:count", summary="Count the images of a data set by class.")
