"""Quality report of a generative model's images, compared with real images: as JSON and as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ld3m_plugin.storage import write_json

# Limits of the verdict: dB, shares, and times the accuracy of guessing.
_SHARP, _RECOGNISED, _APART, _SURE = 22.0, 0.5, 0.5, 2
_NAMED = 5  # classes in a sentence


@dataclass(frozen=True)
class ClassQuality:
    """Quality of one class, or of all classes together.

    Attributes:
        accuracy: share of samples that the judge classifies as the class they were drawn for, percent.
        real_accuracy: the same for real test images. Samples may score higher: ambiguous images can be rarer among them,
            and copies of the judge's training images are easy.
        spread: standard deviation within a class (root of the trace of the covariance) of the samples' features, divided by
            that of the real test images: 0 for one image repeated, 1 for images as varied as real ones.
        pixel_spread: the same for pixels.
        nearest: mean feature distance from a sample to the nearest other sample of its class, divided by the same for
            equally many real test images: near 0 if a few images are repeated, which the spread does not show.

    A ratio is None if all real images are alike.
    """

    name: str
    accuracy: float
    real_accuracy: float
    spread: float | None
    pixel_spread: float | None
    nearest: float | None


@dataclass(frozen=True)
class Reconstruction:
    """Mean squared error of pixels in [0, 1], over all pixels of `images` test images."""

    mse: float
    images: int

    @property
    def psnr(self) -> float | None:
        """Peak signal-to-noise ratio, −10 log10(mse), in dB for a peak of 1; None if the error is 0."""
        return -10 * math.log10(self.mse) if self.mse > 0 else None

    def record(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return {**asdict(self), "psnr_db": self.psnr}


@dataclass(frozen=True)
class Quality:
    """Result of `measure_quality`.

    Attributes:
        overall: all classes together: spreads from the classes' mean variance, `nearest` from their mean distance.
        classes: each class, in label order.
        frechet: Fréchet distance in the judge's features between samples and real test images.
        real_frechet: the same between equally many real training images and the test images. The distance falls with the
            number of images, so compare only distances of equal numbers.
        samples, test_images: number of measured images of each kind.
        features: F, the length of the judge's features.
        data: name of the data set, without a path.
        train_images: number of its training images.
    """

    overall: ClassQuality
    classes: tuple[ClassQuality, ...]
    frechet: float
    real_frechet: float
    samples: int
    test_images: int
    features: int
    data: str
    train_images: int
    reconstruction: Reconstruction | None = None

    def record(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return {**asdict(self), "reconstruction": self.reconstruction and self.reconstruction.record()}

    def write(self, path: Path, **more: Any) -> None:
        """Write a JSON file of the record and of `more`, such as the judge's recipe."""
        write_json(path, {**self.record(), **more})

    def to_markdown(self) -> str:
        """Format a table with one row a class, and the other numbers as sentences; readable as plain text too."""
        head = ["class", "accuracy", "real", "spread", "pixel spread", "nearest"]
        table = [head, *(_cells(one) for one in (*self.classes, self.overall))]
        widths = [max(3, *map(len, column)) for column in zip(*table, strict=True)]
        table.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
        row = "| " + " | ".join([f"{{:<{widths[0]}}}", *(f"{{:>{width}}}" for width in widths[1:])]) + " |\n"
        paragraphs = [self.verdict(), *self._sentences()]
        return "".join(row.format(*cells) for cells in table) + "\n" + "\n\n".join(paragraphs) + "\n"

    def verdict(self) -> str:
        """Say in a sentence what the numbers mean, and what to change. The limits are rules of thumb.

        Blurred: reconstructions below 22 dB. Not recognised: samples of a class reach less than half of the accuracy of its real
        images. Alike: samples of a class are less than half as far apart as real images.
        """
        unsure = self.overall.real_accuracy < _SURE * 100 / len(self.classes)
        if unsure:
            found = [
                f"unsure: the classifier recognises only {self.overall.real_accuracy:.0f} % of the real images, so look at "
                "samples.png; more images, or -S judge_least_steps=N"
            ]
        else:
            found = list(self._not_recognised())
        psnr = None if self.reconstruction is None else self.reconstruction.psnr
        if psnr is not None and psnr < _SHARP:
            found.append(f"blurred (PSNR {psnr:.1f} dB): more autoencoder steps, -S autoencoder_steps=N")
        if (self.overall.nearest or 1) < _APART:
            found.append("samples of a class are much alike: fewer steps, or more images")
        return f"Verdict: {'; '.join(found) or 'usable'}."

    def _not_recognised(self) -> Iterator[str]:
        names = [repr(one.name) for one in self.classes if one.accuracy < _RECOGNISED * one.real_accuracy]
        if names:
            named = names[:_NAMED] + ([f"{len(names) - _NAMED} more"] if len(names) > _NAMED else [])
            listed = " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
            which = f"class {listed} is" if len(names) == 1 else f"classes {listed} are"
            yield f"{which} not recognised: more steps, -S steps=N"

    def _sentences(self) -> list[str]:
        sentences = [
            f"accuracy: how many of {self.samples} samples a classifier, trained on the real images, recognises, in percent; "
            f"real: the same for {self.test_images} real test images. spread: how varied the samples of a class are, in the "
            "classifier's features (pixel spread: in pixels), and nearest: how far a sample is from the most similar one of its "
            "class; both divided by those of real test images: 1 is as varied as real images, 0 all the same.",
            f"Fréchet distance to the test images in {self.features} features: {self.frechet:.2f} for {self.samples} "
            f"samples, {self.real_frechet:.2f} for {self.samples} real training images; lower is more alike.",
        ]
        if self.reconstruction is not None:
            error = self.reconstruction
            psnr = "no error" if error.psnr is None else f"PSNR {error.psnr:.2f} dB"
            sentences.append(
                f"Reconstruction of {error.images} test images: mean squared error {error.mse:.6f} of pixels in [0, 1], {psnr}."
            )
        return sentences


def _cells(one: ClassQuality) -> list[str]:
    ratios = ("-" if ratio is None else f"{ratio:.2f}" for ratio in (one.spread, one.pixel_spread, one.nearest))
    return [one.name.replace("|", "\\|"), f"{one.accuracy:.1f}", f"{one.real_accuracy:.1f}", *ratios]
