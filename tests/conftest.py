"""What tests of all folders share: golden files, the rule that makes golden weights, and one tolerance rule."""

import zlib
from math import prod
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file

_DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def golden():
    """Loads a golden file by its stem."""
    return lambda stem: load_file(_DATA / f"{stem}.safetensors")


@pytest.fixture(scope="session")
def set_golden_weights():
    """Gives every parameter of a network the value that golden files define by its name."""

    def value(name, shape):
        random = numpy.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
        if len(shape) >= 2:
            return random / numpy.sqrt(prod(shape[1:]))
        return 1 + 0.1 * random if name.endswith("weight") else 0.1 * random

    @torch.no_grad()
    def set_weights(network):
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(value(name, parameter.shape).astype(numpy.float32)))
        return network

    return set_weights


@pytest.fixture(scope="session")
def relative_error():
    """||out - expected|| / ||expected||, the measure that golden tolerances are given in."""
    return lambda out, expected: float((out - expected).norm() / expected.norm())
