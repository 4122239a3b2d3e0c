"""A small linear classifier of texts: hashed n-grams and 8-bit weights.

A sum of weights can be taken over any part of a text once it is known up to every place. So long
texts are scored by windows, and all windows cost what one reading of the text does. Sums are of
integers: the same on every machine.

Chosen on the validation part of :mod:`everlong.curation.harm.toxicity_training`: characters 4 and 5
beat 3 to 5 and 3 to 6 by 0.001 of the area under the curve, separate weights for words gained
nothing, and 8 bits lose nothing that could be measured. An insult inside other text is found more
often by windows of 100 characters (74 %) than by those of 160 or 240 (60 and 33 %), whole tweets as
often.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from everlong.config import from_plain, to_plain
from everlong.curation.classifier.hashed_ngrams import MOST_CHARACTERS, Ngrams, ngrams
from everlong.curation.classifier.logistic_regression import (
    FEWEST,
    Floats,
    Rows,
    balanced,
    fit,
    left_out_values,
    platt,
)
from everlong.errors import CheckpointError, ConfigError
from everlong.files import atomic_write

_FORMAT = "everlong-text-classifier-1"


@dataclass(frozen=True)
class TextClassifier:
    """Says how likely a text is of a class."""

    weights: NDArray[np.int8]
    """[2^bits]."""
    scale: float
    """What a weight of 1 is worth."""
    bias: float
    """The value of a text without any n-gram."""
    slope: float
    """Of the logistic function."""
    offset: float
    """What a value times ``slope`` is shifted by."""
    ngrams: Ngrams = field(default_factory=Ngrams)
    """What is counted."""
    window: int = 100
    """Characters of a window; the next one begins in its middle."""
    description: Mapping[str, str] = field(default_factory=dict)
    """What it was trained on, by whom, and under what licence."""

    @classmethod
    def train(
        cls,
        texts: Sequence[str],
        labels: Sequence[bool],
        *,
        weights: Sequence[float] | None = None,
        ngrams: Ngrams | None = None,
        window: int = 100,
        penalty: float = 1e-5,
        folds: int = 5,
        seed: int = 0,
        groups: Sequence[str] | None = None,
        description: Mapping[str, str] | None = None,
    ) -> TextClassifier:
        """Learn from texts.

        Args:
            texts: each about as long as a window, or shorter.
            labels: whether a text is of the class.
            weights: how much each text counts; None: both classes count the same in all.
            ngrams: what is counted; None: as usual.
            window: see the field.
            penalty: on the squares of the weights, beside the mean loss.
            folds: the logistic function is fitted to values of texts by classifiers that were
                trained without them; so many are trained for it.
            seed: decides which texts are left out together.
            groups: where each text is from. Those of a group are left out together, so that
                probabilities are those of texts from somewhere else; None: by chance.
            description: see the field.

        Raises:
            ConfigError: a number is not allowed, or a class has fewer than ``folds`` texts, or
                there are fewer groups.
        """
        kind = ngrams or Ngrams()
        rows = Rows.of(texts, kind)
        truth = np.asarray(labels, np.bool_)
        shares = balanced(truth) if weights is None else np.asarray(weights, np.float64)
        if not len(texts) == len(truth) == len(shares):
            raise ConfigError(f"{len(texts)} texts, {len(truth)} labels, {len(shares)} weights")
        if groups is not None and len(groups) != len(texts):
            raise ConfigError(f"{len(texts)} texts, {len(groups)} groups")
        if not (np.isfinite(shares).all() and (shares > 0).all()):
            raise ConfigError("weights has a number that is not above 0, or not finite")
        values = left_out_values(rows, truth, shares, penalty, folds, seed, groups)
        slope, offset = platt(values, truth, shares)
        fitted = fit(rows, truth, shares, penalty)
        return cls(*fitted, slope, offset, kind, window, dict(description or {}))

    def __post_init__(self) -> None:
        if self.weights.dtype != np.int8 or self.weights.shape != (1 << self.ngrams.bits,):
            raise ConfigError(
                f"weights are {self.weights.dtype} {list(self.weights.shape)}; "
                f"{self.ngrams.bits} bits need int8 [{1 << self.ngrams.bits}]"
            )
        if not 16 <= self.window <= MOST_CHARACTERS // 4:
            raise ConfigError(f"window is {self.window}; give 16 to {MOST_CHARACTERS // 4}")
        numbers = (self.scale, self.bias, self.slope, self.offset)
        if not np.isfinite(numbers).all():
            raise ConfigError(f"scale, bias, slope and offset must be finite, not {numbers}")

    def score(self, text: str) -> float:
        """How likely a text is of the class, 0 to 1: the highest of its windows."""
        return float(self.window_scores(text).max())

    def window_scores(self, text: str) -> Floats:
        """How likely each window of a text is of the class, in their order; at least one."""
        values = np.concatenate([self._values(piece) for piece in self._pieces(text)])
        # Far outside, the exponential function overflows and the result is the same.
        exponent = np.clip(values * self.slope + self.offset, -500, 500)
        probabilities: Floats = 1 / (1 + np.exp(-exponent))
        return probabilities

    def _values(self, text: str) -> Floats:
        found = ngrams(text, self.ngrams)
        n = found.runs.shape[1]
        sums = np.zeros((2, n + 1), np.int64)  # of weights, and of n-grams, up to each place
        sums[0, 1:] = (self.weights[found.runs] * found.inside).sum(0, dtype=np.int64)
        sums[1, 1:] = found.inside.sum(0)
        for starts, numbers in found.words:
            sums[0, starts + 1] += self.weights[numbers]
            sums[1, starts + 1] += 1
        if n <= self.window:
            weight, count = sums.sum(1)
        else:
            np.cumsum(sums, axis=1, out=sums)
            starts = np.append(np.arange(0, n - self.window, self.window // 2), n - self.window)
            weight, count = sums[:, starts + self.window] - sums[:, starts]
        return np.atleast_1d(self.scale * weight / np.sqrt(np.maximum(count, FEWEST)) + self.bias)

    def _pieces(self, text: str) -> Iterator[str]:
        """A text in parts that overlap by a window and end where a word does, if they can."""
        start = 0
        while len(text) - start > MOST_CHARACTERS:
            end = start + MOST_CHARACTERS
            end = max(
                text.rfind(" ", start + MOST_CHARACTERS // 2, end), end - MOST_CHARACTERS // 4
            )
            yield text[start:end]
            start = max(text.rfind(" ", start, end - self.window), end - 2 * self.window)
        yield text[start:]

    def save(self, path: Path) -> None:
        """Write it as safetensors; all but the weights is JSON in the header."""
        parts = {name: getattr(self, name) for name in _NUMBERS}
        header = parts | {"ngrams": to_plain(self.ngrams), "description": dict(self.description)}
        # One key: safetensors writes several in any order, and equal classifiers are equal files.
        metadata = {_FORMAT: json.dumps(header, sort_keys=True)}
        atomic_write(path, save({"weights": self.weights}, metadata))

    @classmethod
    def load(cls, path: Path) -> TextClassifier:
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: the file is missing, or no such classifier.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if _FORMAT not in metadata:
                    raise CheckpointError(f"{path} is no text classifier of format {_FORMAT}")
                weights = file.get_tensor("weights")
            header = json.loads(metadata[_FORMAT])
            numbers: dict[str, Any] = {name: header[name] for name in _NUMBERS}
            kind = from_plain(Ngrams, header["ngrams"])
            return cls(weights, **numbers, ngrams=kind, description=dict(header["description"]))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be read as a text classifier: {error}") from None


_NUMBERS = ("scale", "bias", "slope", "offset", "window")
