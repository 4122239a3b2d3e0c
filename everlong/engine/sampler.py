"""Chooses the next token of each sequence from the model's logits.

The logits of a row pass, in this order, through: logit bias, the tokens that a constraint allows,
repetition, frequency and presence penalties, the minimum length, temperature, top-k, top-p, min-p.
A later step sees what an earlier one left: top-p counts probabilities among the top-k only. Equal
logits are ranked by token id, lowest first, wherever a rank decides.

A row's token depends on its own logits and its own state, never on the other rows. The randomness
of a token is a hash of the seed and of the token's place in the output, so there is no generator
whose state could be lost when a sequence is preempted, moved or resumed.

Everything is NumPy on one thread: one pass over 49,152 logits takes 3 to 16 us there, and starting
a parallel PyTorch operation costs as much. Measured on one core (AVX-512), per row of 49,152 and
of 151,936 logits shaped like a language model's: greedy 4 and 8 us; temperature alone 45 and
120 us; top-k, alone or with top-p, 35 and 65 us; min-p 37 and 100 us; top-p 85 and 280 us (0.9 and
2.3 ms where the nucleus is a good part of the vocabulary); penalties and bias 15 and 25 us more,
log-probabilities 35 and 110 us more, 65 and 165 us with twenty alternatives.

Letters: B rows, V vocabulary, N candidates of a row.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from everlong.engine.constraint import ConstraintState
from everlong.engine.request import SamplingParams, TokenLogprob
from everlong.errors import RequestError

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

_CHUNK = 256  # weights that are summed before the cumulative sum over the vocabulary
_COLDEST = 1e-30  # a temperature that float32 can divide by, as good as 0
_GROUPS = 1024  # groups whose maxima bound the k-th largest logit from below


@dataclass(frozen=True, slots=True)
class Sampled:
    """One chosen token."""

    token_id: int
    logprob: TokenLogprob | None = None
    """Set when the request asked for log-probabilities."""
    end: Literal["stop_token", "constraint"] | None = None
    """Why the sequence ends with this token, if it does: it is an end-of-sequence or stop token
    (and no part of the text), or it completes the constraint, which allows nothing after it."""


class SequenceSampler:
    """What sampling has to remember about one sequence.

    Args:
        params: the request's.
        prompt_ids: the prompt; read for the repetition penalty.
        vocab_size: how many token ids there are. Wider rows of logits, from embeddings that are
            padded to a round size, are cut.
        eos_token_ids: ids that end a sequence, unless ``params.ignore_eos``.
        constraint: the compiled form of ``params.constraint``; owned by this object from now on.

    Raises:
        RequestError: a token id in ``params`` is not in the vocabulary.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        vocab_size: int,
        eos_token_ids: Iterable[int] = (),
        constraint: ConstraintState | None = None,
    ) -> None:
        assert (constraint is None) == (params.constraint is None), "compile params.constraint"
        for name, ids in (
            ("logit_bias", tuple(params.logit_bias)),
            ("stop_token_ids", params.stop_token_ids),
        ):
            for token_id in ids:
                if not 0 <= token_id < vocab_size:
                    raise RequestError(
                        f"{name} has the token id {token_id}; "
                        f"the vocabulary's are 0 to {vocab_size - 1}"
                    )
        self.params = params
        self.vocab_size = vocab_size
        self.constraint = constraint
        self.generated = 0
        """Tokens accepted so far."""
        eos = () if params.ignore_eos else eos_token_ids
        self.stop_token_ids = frozenset(params.stop_token_ids) | frozenset(eos)
        """Ids that end the sequence."""
        seed = secrets.randbits(64) if params.seed is None else params.seed
        self._key = hashlib.blake2b(str(seed).encode(), digest_size=32).digest()
        self._bias_ids: Ids = np.array(list(params.logit_bias), dtype=np.int64)
        self._bias: Floats = np.array(list(params.logit_bias.values()), dtype=np.float32)
        self._stop_ids: Ids = np.array(
            sorted(i for i in self.stop_token_ids if i < vocab_size), dtype=np.int64
        )
        self._penalised: _Counts | None = None
        if params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty:
            repeats = params.repetition_penalty != 1
            self._penalised = _Counts(prompt_ids if repeats else ())

    @property
    def edits(self) -> bool:
        """Whether the next token's logits are changed before temperature and truncation."""
        return bool(
            self.constraint is not None
            or self._penalised is not None
            or self._bias_ids.size
            or (self._stop_ids.size and self.generated < self.params.min_tokens)
        )

    def uniform(self) -> float:
        """The random number in [0, 1) of the next token; the same until it is accepted."""
        place = self.generated.to_bytes(8, "little")
        digest = hashlib.blake2b(place, key=self._key, digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 11) * 2.0**-53

    def accept(self, token_id: int) -> Literal["stop_token", "constraint"] | None:
        """Record the next token. :func:`sample` does; call it for tokens chosen elsewhere.

        Returns:
            Why the sequence ends with it (see :class:`Sampled`), or None.

        Raises:
            RequestError: the constraint does not allow it, or became too complex.
        """
        self.generated += 1
        if self._penalised is not None:
            self._penalised.add(token_id)
        if self.constraint is not None:
            self.constraint.accept(token_id)
        if token_id in self.stop_token_ids:
            return "stop_token"
        if self.constraint is not None and self.constraint.finished:
            return "constraint"
        return None

    def edited(self, row: Floats) -> Floats:
        """A copy of ``row`` [V] with bias, constraint, penalties and minimum length applied.

        Raises:
            RequestError: the constraint became too complex.
        """
        row = row.copy()
        row[self._bias_ids] += self._bias
        if self.constraint is not None:
            allowed = self.constraint.mask()[: len(row)]
            np.copyto(row[: len(allowed)], -np.inf, where=~allowed)
            row[len(allowed) :] = -np.inf
        if self._penalised is not None:
            self._penalise(row, self._penalised)
        if self.generated < self.params.min_tokens:
            ends = row[self._stop_ids]
            row[self._stop_ids] = -np.inf
            if self.constraint is not None and row.max() == -np.inf:
                row[self._stop_ids] = ends  # the constraint leaves nothing but the end
        return row

    def _penalise(self, row: Floats, seen: _Counts) -> None:
        params = self.params
        values = row[seen.ids]
        if params.repetition_penalty != 1:
            factor = np.float32(params.repetition_penalty)
            values = np.where(values > 0, values / factor, values * factor)
        values -= np.float32(params.frequency_penalty) * seen.counts
        values -= np.float32(params.presence_penalty) * (seen.counts > 0)
        row[seen.ids] = values


class _Counts:
    """How often each token of a growing set was generated.

    Args:
        initial: tokens that are in the set from the start, with a count of 0.
    """

    def __init__(self, initial: Sequence[int]) -> None:
        self._ids: Ids = np.unique(np.asarray(initial, dtype=np.int64))
        self._counts: Floats = np.zeros(len(self._ids), dtype=np.float32)
        self._place = {token_id: i for i, token_id in enumerate(self._ids.tolist())}

    @property
    def ids(self) -> Ids:
        return self._ids[: len(self._place)]

    @property
    def counts(self) -> Floats:
        return self._counts[: len(self._place)]

    def add(self, token_id: int) -> None:
        place = self._place.setdefault(token_id, len(self._place))
        if place == len(self._ids):
            room = max(64, place)
            self._ids = np.concatenate([self._ids, np.zeros(room, dtype=np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros(room, dtype=np.float32)])
        self._ids[place] = token_id
        self._counts[place] += 1


def sample(logits: Tensor, states: Sequence[SequenceSampler]) -> list[Sampled | RequestError]:
    """Choose one token per row and record it in the row's state.

    Log-probabilities, where a request wants them, are those of the raw logits: what the model
    says, before bias, constraint, penalties and temperature (vLLM's default).

    Args:
        logits: float32 [B, V]; left as it is.
        states: B of them, with ``vocab_size <= V``.

    Returns:
        For each row its token, or the error with which that request fails: its logits are not
        finite, or its constraint is at its limits. Other rows are not affected.
    """
    rows: Floats = logits.detach().cpu().numpy()
    assert rows.dtype == np.float32, f"logits must be float32, not {logits.dtype}"
    assert rows.ndim == 2, f"logits must be [B, V], not {list(rows.shape)}"
    assert len(rows) == len(states), f"{len(rows)} rows for {len(states)} sequences"
    results: list[Sampled | RequestError] = []
    with np.errstate(over="ignore", invalid="ignore"):
        for row, state in zip(rows, states, strict=True):
            try:
                results.append(_sample_row(row[: state.vocab_size], state))
            except RequestError as error:
                results.append(error)
    return results


def _sample_row(raw: Floats, state: SequenceSampler) -> Sampled:
    assert len(raw) == state.vocab_size, f"{len(raw)} logits, vocabulary of {state.vocab_size}"
    best = int(raw.argmax())  # NaN counts as the largest
    if not np.isfinite(raw[best]):
        raise RequestError(
            f"the model's logits are not finite ({raw[best]} at token {best}): the weights are "
            "damaged, or they overflow in this precision; try weights=float32"
        )
    row = raw
    if state.edits:
        row = state.edited(raw)
        best = int(row.argmax())
        if not np.isfinite(row[best]):
            raise RequestError("no token is left to choose: the constraint allows none")
    params = state.params
    token_id = best if params.temperature == 0 else draw(row, best, params, state.uniform())
    logprob = None if params.logprobs is None else log_probability(raw, token_id, params.logprobs)
    return Sampled(token_id, logprob, state.accept(token_id))


def draw(row: Floats, best: int, params: SamplingParams, uniform: float) -> int:
    """Draw a token from softmax(row / temperature) truncated by top-k, top-p and min-p.

    Of the tokens that remain, the one is chosen at which the sum of probabilities in the order
    of the ids passes ``uniform``. (Not in the order of the probabilities, so that noise which
    swaps two nearly equal tokens hardly ever changes the choice.)

    Args:
        row: logits [V]; may contain -inf.
        best: index of the largest, which is finite.
        uniform: in [0, 1).
    """
    size = len(row)
    top, temperature = row[best], np.float32(max(params.temperature, _COLDEST))
    total: float | None = None  # of the weights that top-p counts, where N does not hold them all
    if 0 < params.top_k < size:
        ids = largest(row, params.top_k)
    elif params.top_p < 1:
        weights = _weights(row, top, temperature)
        total = float(weights.sum(dtype=np.float64))
        # Tokens below (1 - p) / V of the total cannot have more than 1 - p together, so those
        # above contain the nucleus. Half of it, to be safe from rounding.
        ids = np.flatnonzero(weights >= 0.5 * (1 - params.top_p) * total / size)
    elif params.min_p > 0:
        weights = _weights(row, top, temperature)
        ids = np.flatnonzero(weights >= 0.5 * params.min_p)
    else:
        return _draw_from_all(_weights(row, top, temperature), uniform)
    values = row[ids]  # [N]
    if params.top_p < 1:
        kept = _nucleus(values, top, temperature, params.top_p, total)
        ids, values = ids[kept], values[kept]
    weights = _weights(values, top, temperature)
    if params.min_p > 0:
        kept = weights >= params.min_p
        ids, weights = ids[kept], weights[kept]
    return int(ids[_invert(weights, uniform)])


def largest(row: Floats, k: int) -> Ids:
    """Ids of the k largest values of ``row`` [V], ascending; of equal values the lowest ids.

    No full sort: at least k values reach the k-th largest of the maxima of groups, so that one
    comparison with it leaves few candidates.
    """
    size = len(row)
    if k >= size:
        return np.arange(size)
    if k >= _GROUPS or size < _GROUPS:
        return np.flatnonzero(_above(row, _kth_largest(row, k), k))
    depth = size // _GROUPS
    maxima = row[: depth * _GROUPS].reshape(depth, _GROUPS).max(axis=0)
    candidates = np.flatnonzero(row >= _kth_largest(maxima, k))
    values = row[candidates]
    return candidates[_above(values, _kth_largest(values, k), k)]


def log_probability(row: Floats, token_id: int, count: int) -> TokenLogprob:
    """Log-softmax of ``row`` [V] at a token, and at the ``count`` likeliest tokens.

    Tokens of probability 0 are not among the likeliest, even if there are fewer than asked for.
    """
    top = row.max()
    log_total = float(top) + float(np.log(np.exp(row - top).sum(dtype=np.float64)))
    best: tuple[tuple[int, float], ...] = ()
    if count:
        ids = largest(row, count)
        ids = ids[np.argsort(-row[ids], kind="stable")]
        best = tuple((int(i), float(row[i]) - log_total) for i in ids if row[i] > -np.inf)
    return TokenLogprob(token_id, float(row[token_id]) - log_total, best)


def log_probabilities(rows: Tensor, tokens: Sequence[int], count: int) -> list[TokenLogprob]:
    """As :func:`log_probability` for many rows at once: float32 [T, V], a token for each."""
    # Few rows at a time stay in the processor's cache: three times as fast.
    totals = torch.cat([few.logsumexp(-1) for few in torch.split(rows, 8)])
    chosen = rows.gather(1, torch.tensor(tokens)[:, None])[:, 0] - totals
    if not count:
        return [TokenLogprob(t, p) for t, p in zip(tokens, chosen.tolist(), strict=True)]
    best, ids = rows.topk(count)
    told = zip((best - totals[:, None]).tolist(), ids.tolist(), strict=True)
    return [
        TokenLogprob(t, p, tuple((i, b) for b, i in zip(bs, names, strict=True) if b > -math.inf))
        for t, p, (bs, names) in zip(tokens, chosen.tolist(), told, strict=True)
    ]


def _weights(values: Floats, top: np.float32, temperature: np.float32) -> Floats:
    """exp((values - top) / temperature). At most 1, so that no temperature overflows."""
    shifted = values - top
    if temperature != 1:
        shifted /= temperature
    np.exp(shifted, out=shifted)
    return shifted


def _nucleus(
    values: Floats, top: np.float32, temperature: np.float32, top_p: float, total: float | None
) -> NDArray[np.bool_]:
    """Which of ``values`` [N] form the smallest set whose weight is at least top_p * total.

    Args:
        values: logits that contain the nucleus, by ascending token id.
        total: weight of the whole distribution; None where ``values`` are all of it.
    """
    ranked = np.sort(values)[::-1]
    mass = np.cumsum(_weights(ranked, top, temperature), dtype=np.float64)
    target = top_p * (mass[-1] if total is None else total)
    count = min(int(np.searchsorted(mass, target)) + 1, len(values))
    return _above(values, ranked[count - 1], count)


def _kth_largest(values: Floats, k: int) -> np.float32:
    place = len(values) - k
    value: np.float32 = np.partition(values, place)[place]
    return value


def _above(values: Floats, cut: np.float32, count: int) -> NDArray[np.bool_]:
    """Marks ``count`` of ``values``: those above ``cut``, then the first of those equal to it."""
    kept = values > cut
    missing = count - int(np.count_nonzero(kept))
    kept[np.flatnonzero(values == cut)[:missing]] = True
    return kept


def _draw_from_all(weights: Floats, uniform: float) -> int:
    """Index at which the cumulative sum of ``weights`` [V] passes ``uniform`` of the total.

    In two levels: first over sums of chunks, then inside one chunk.
    """
    sums = np.add.reduceat(weights, _chunk_starts(len(weights)))
    bounds = np.cumsum(sums, dtype=np.float64)
    chunk = _invert(sums, uniform)
    rest = (uniform * bounds[-1] - (bounds[chunk] - sums[chunk])) / sums[chunk]
    start = chunk * _CHUNK
    return start + _invert(weights[start : start + _CHUNK], min(max(rest, 0.0), 1.0))


@cache
def _chunk_starts(size: int) -> Ids:
    return np.arange(0, size, _CHUNK)


def _invert(weights: Floats, uniform: float) -> int:
    """The first index at which the cumulative sum exceeds ``uniform`` of the total.

    Its weight is never 0. ``uniform`` may be 1 by rounding.
    """
    mass = np.cumsum(weights, dtype=np.float64)
    below = min(uniform * mass[-1], np.nextafter(mass[-1], 0))
    return int(np.searchsorted(mass, below, side="right"))
