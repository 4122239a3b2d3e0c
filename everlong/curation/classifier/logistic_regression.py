"""Logistic regression on hashed n-grams, the same to the bit whatever the processor has.

A text's value is the sum of its n-grams' weights over the square root of their number, so that it
is not the longer text that has the higher one, nor the shorter (:data:`FEWEST`). What is least is
the mean logistic loss with a penalty on the squares of the weights; the weights are then rounded to
8 bits. A logistic function with two parameters makes a probability of a value (Platt 1999,
"Probabilistic Outputs for Support Vector Machines"), fitted to texts that the weights were not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlong.curation.classifier.hashed_ngrams import MOST_CHARACTERS, Integers, Ngrams, ngrams
from everlong.errors import ConfigError

Floats = NDArray[np.float64]

FEWEST = 30
"""A text of fewer n-grams counts as one of so many: a single word says little, whatever it is."""


@dataclass(frozen=True)
class Rows:
    """The n-grams of texts, one after the other."""

    numbers: Integers  # [all]
    starts: Integers  # [texts + 1]: where each text's begin, and the end
    size: int  # of the table

    @classmethod
    def of(cls, texts: Sequence[str], kind: Ngrams) -> Rows:
        """Those of some texts, of each the first 16 thousand characters."""
        found = [ngrams(text[:MOST_CHARACTERS], kind).numbers() for text in texts]
        starts = np.cumsum([0, *map(len, found)])
        numbers = np.concatenate([np.zeros(0, np.int64), *found])
        return cls(numbers, starts.astype(np.int64), 1 << kind.bits)

    def some(self, chosen: NDArray[np.bool_]) -> Rows:
        """Those of some texts."""
        lengths = np.diff(self.starts)
        starts = np.append(0, np.cumsum(lengths[chosen]))
        return Rows(self.numbers[np.repeat(chosen, lengths)], starts, self.size)

    def renumbered(self) -> tuple[Rows, Integers]:
        """The same with numbers from 0 on and none left out; and what each was before."""
        used = np.flatnonzero(np.bincount(self.numbers, minlength=self.size))
        place = np.zeros(self.size, np.int64)
        place[used] = np.arange(len(used))
        return Rows(place[self.numbers], self.starts, len(used)), used

    def roots(self) -> Floats:
        """One over the square root of every text's number of n-grams."""
        roots: Floats = 1 / np.sqrt(np.maximum(np.diff(self.starts), FEWEST))
        return roots

    def values(self, weights: NDArray[Any]) -> Floats:
        """Of each text the sum of its weights, over the root of their number."""
        # A sum of no numbers is the number that comes next, if there is one: it is not taken.
        sums = np.add.reduceat(np.append(weights[self.numbers], 0.0), self.starts[:-1])
        return np.where(np.diff(self.starts) > 0, sums, 0.0) * self.roots()


def balanced(truth: NDArray[np.bool_]) -> Floats:
    """Weights by which both classes count the same in all."""
    share = np.array([1 / max(1, (~truth).sum()), 1 / max(1, truth.sum())])
    return share[truth.astype(np.int64)]


def left_out_values(
    rows: Rows,
    truth: NDArray[np.bool_],
    shares: Floats,
    penalty: float,
    folds: int,
    seed: int,
    groups: Sequence[str] | None = None,
) -> Floats:
    """Each text's value by a classifier that was trained on texts of other folds.

    Args:
        rows, truth, shares, penalty: as :func:`fit` has them.
        folds: so many classifiers are trained.
        seed: decides which texts are left out together, if there are no groups.
        groups: texts of one are left out together.

    Raises:
        ConfigError: a class has fewer than ``folds`` texts, or there are fewer groups, or a fold
            has all texts of a class.
    """
    if groups is None:
        fold = _folds_by_chance(truth, folds, seed)
    else:
        fold = _folds_by_group(groups, folds)
    values = np.empty(len(truth))
    for number in range(folds):
        out = fold == number
        if len(set(truth[~out].tolist())) < 2:
            raise ConfigError(
                f"fold {number} of {folds} has all texts of a class; give other groups"
            )
        weights, scale, bias = fit(rows.some(~out), truth[~out], shares[~out], penalty)
        values[out] = rows.some(out).values(weights) * scale + bias
    return values


def _folds_by_chance(truth: NDArray[np.bool_], folds: int, seed: int) -> Integers:
    fewest = min(int(truth.sum()), int((~truth).sum()))
    if not 2 <= folds <= fewest:
        raise ConfigError(
            f"folds is {folds}, and the smaller class has {fewest} texts; give 2 to {fewest}"
        )
    fold = np.empty(len(truth), np.int64)
    draw = np.random.default_rng(seed)
    for label in (False, True):
        (places,) = np.nonzero(truth == label)
        fold[draw.permutation(places)] = np.arange(len(places)) % folds
    return fold


def _folds_by_group(groups: Sequence[str], folds: int) -> Integers:
    number = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    if not 2 <= folds <= len(number):
        raise ConfigError(
            f"folds is {folds}, and there are {len(number)} groups; give 2 to {len(number)}"
        )
    return np.array([number[group] % folds for group in groups], np.int64)


def fit(
    rows: Rows, truth: NDArray[np.bool_], shares: Floats, penalty: float
) -> tuple[NDArray[np.int8], float, float]:
    """Weights, their scale, and the bias of the least regularised loss."""
    if not penalty > 0:
        raise ConfigError(f"penalty is {penalty}; it must be above 0")
    size = rows.size
    rows, used = rows.renumbered()
    lengths, roots = np.diff(rows.starts), rows.roots()

    def loss(point: Floats) -> tuple[float, Floats]:
        value, slopes = _logistic_loss(rows.values(point[:-1]) + point[-1], truth, shares)
        each = np.repeat(slopes * roots, lengths)
        gradient = np.bincount(rows.numbers, each, rows.size) + penalty * point[:-1]
        value += 0.5 * penalty * float((point[:-1] ** 2).sum())
        return value, np.append(gradient, slopes.sum())

    point = _least(loss, np.zeros(rows.size + 1))
    scale = max(float(np.abs(point[:-1]).max(initial=0)), 1e-12) / 127
    weights = np.zeros(size, np.int8)
    weights[used] = np.rint(point[:-1] / scale)
    return weights, scale, float(point[-1])


def platt(values: Floats, truth: NDArray[np.bool_], shares: Floats) -> tuple[float, float]:
    """Slope and offset by which values become probabilities."""

    def loss(point: Floats) -> tuple[float, Floats]:
        value, slopes = _logistic_loss(values * point[0] + point[1], truth, shares)
        # Without it there is no least loss where values tell all texts apart.
        value += 0.5e-4 * float(point[0] ** 2)
        return value, np.array([(slopes * values).sum() + 1e-4 * point[0], slopes.sum()])

    slope, offset = _least(loss, np.array([1.0, 0.0]))
    return float(slope), float(offset)


def _logistic_loss(
    values: Floats, truth: NDArray[np.bool_], shares: Floats
) -> tuple[float, Floats]:
    """The mean logistic loss, and what it changes by with each value.

    By additions, products and quotients alone, which every processor rounds alike: numpy's own
    exponential function has other last bits where there is AVX-512, and from these came other
    weights.
    """
    sign = np.where(truth, -1.0, 1.0)
    share = shares / shares.sum()
    wrong = sign * values
    small = _exp(-np.abs(wrong))
    # log(1 + e) = 2 artanh(e / (2 + e)), by its series; 0 <= e <= 1.
    part = small / (2 + small)
    square, series = part * part, np.zeros_like(part)
    for power in range(35, 0, -2):
        series = series * square + 2 / power
    losses = np.maximum(wrong, 0.0) + part * series
    likely = np.where(wrong > 0, 1.0, small) / (1 + small)
    return float((share * losses).sum()), sign * share * likely


def _exp(exponent: Floats) -> Floats:
    """The exponential function of numbers up to 0."""
    exponent = np.maximum(exponent, -700.0)
    halvings = np.rint(exponent * -1.4426950408889634)
    # ln 2 in two parts, of which the first has zeros at its end: its multiples are exact.
    rest = exponent + halvings * 0.693147180369123816490 + halvings * 1.90821492927058770002e-10
    series = np.ones_like(rest)
    for power in range(14, 0, -1):
        series = series * rest / power + 1
    found: Floats = np.ldexp(series, -halvings.astype(np.int32))
    return found


_STEPS = 200
_MEMORY = 10
_FLAT = 1e-5


def _least(loss: Callable[[Floats], tuple[float, Floats]], point: Floats) -> Floats:
    """Where a smooth convex function is least: L-BFGS (Liu and Nocedal 1989, algorithm 2.1).

    Until the gradient's length is a hundred thousandth of what it was, or 200 steps.
    """
    value, gradient = loss(point)
    enough = _FLAT * _length(gradient)
    pairs: list[tuple[Floats, Floats, float]] = []
    for _ in range(_STEPS):
        if _length(gradient) <= enough:
            break
        direction, used = -gradient, []
        for moved, turned, product in reversed(pairs):
            used.append(float((moved * direction).sum()) / product)
            direction = direction - used[-1] * turned
        if pairs:
            moved, turned, product = pairs[-1]
            direction = direction * (product / float((turned * turned).sum()))
        for (moved, turned, product), amount in zip(pairs, reversed(used), strict=True):
            direction = direction + (amount - float((turned * direction).sum()) / product) * moved
        downhill = float((gradient * direction).sum())
        step = 1.0 if pairs else 1.0 / _length(gradient)
        while (found := loss(point + step * direction))[0] > value + 1e-4 * step * downhill:
            step /= 2
            if step < 1e-12:  # as good as numbers of this precision can be
                return point
        moved, turned = step * direction, found[1] - gradient
        product = float((moved * turned).sum())
        if product > 0:
            pairs = [*pairs, (moved, turned, product)][-_MEMORY:]
        point, (value, gradient) = point + moved, found
    return point


def _length(vector: Floats) -> float:
    return float(np.sqrt((vector * vector).sum()))
