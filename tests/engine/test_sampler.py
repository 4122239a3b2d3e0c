"""Sampling against a reference that sorts the whole vocabulary, and against the laws of chance."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from everlong.engine.constraint import ConstraintCompiler
from everlong.engine.request import Constraint, SamplingParams
from everlong.engine.sampler import Sampled, SequenceSampler, draw, largest, sample
from everlong.errors import RequestError
from everlong.tokenizer import train_tokenizer


def sampler(vocab_size: int, **params: Any) -> SequenceSampler:
    return SequenceSampler(SamplingParams(**params), (), vocab_size)


def choose(logits: Any, *states: SequenceSampler) -> list[Sampled]:
    results = sample(torch.as_tensor(logits, dtype=torch.float32), states)
    assert all(isinstance(result, Sampled) for result in results), results
    return results  # type: ignore[return-value]


def reference(row: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, bool]:
    """Probabilities [V] after temperature, top-k, top-p and min-p, from one full sort.

    Also whether they are beyond doubt: no sum lies so close to a bound that rounding decides.
    """
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))
    scaled = (row.astype(np.float64) - row.max()) / params.temperature
    probability = np.exp(scaled)
    kept = order[: params.top_k] if params.top_k else order
    clear = True
    if params.top_p < 1:
        mass = np.cumsum(probability[kept]) / probability[kept].sum()
        clear &= bool(np.abs(mass - params.top_p).min() > 1e-5)
        kept = kept[: int(np.searchsorted(mass, params.top_p)) + 1]
    if params.min_p > 0:
        relative = probability[kept] / probability[kept].max()
        gap = np.abs(relative - params.min_p)
        # The most likely token is exactly as likely as itself, whatever the arithmetic.
        gap = gap[gap > 0] if params.min_p == 1 else gap
        clear &= not bool((gap <= 1e-6).any())
        kept = [i for i, r in zip(kept, relative, strict=True) if r >= params.min_p]
    result = np.zeros(len(row))
    result[kept] = probability[kept]
    return result / result.sum(), clear


def rows(sizes: st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    """Logits with many equal values, and some -inf."""
    values = st.one_of(
        st.integers(-6, 6).map(float),
        st.floats(-20, 20, width=32),
        st.just(-np.inf),
    )
    return sizes.flatmap(
        lambda n: npst.arrays(np.float32, n, elements=values, fill=st.integers(-2, 2).map(float))
    ).filter(lambda row: np.isfinite(row.max()))


truncations = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.05, 0.5, 1.0, 1.7, 30.0]),
        "top_k": st.sampled_from([0, 0, 1, 2, 5, 40, 5000]),
        "top_p": st.sampled_from([1.0, 1.0, 0.999, 0.9, 0.5, 0.1, 1e-4]),
        "min_p": st.sampled_from([0.0, 0.0, 0.02, 0.3, 1.0]),
    }
)


@settings(deadline=None, max_examples=200)
@given(rows(st.sampled_from([1, 2, 7, 33, 300, 1024, 1500])), truncations)
@example(
    np.array([4.05e-13, 0], dtype=np.float32),  # apart in double precision, equal in single
    {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 1.0},
)
def test_draws_follow_the_reference(row: np.ndarray, given_params: dict[str, Any]) -> None:
    params = SamplingParams(**given_params)
    expected, clear = reference(row, params)
    assume(clear)
    ends = np.cumsum(expected)
    best = int(row.argmax())
    # The middle of a token's interval gives that token; no other interval is missing or moved.
    for i in np.flatnonzero(expected > 1e-4)[:200]:
        middle = float(ends[i] - expected[i] / 2)
        assert draw(row, best, params, middle) == i
    for uniform in (0.0, 1 - 2.0**-53):
        assert expected[draw(row, best, params, uniform)] > 0


@settings(deadline=None, max_examples=100)
@given(rows(st.sampled_from([1, 5, 1023, 1024, 1025, 4000])), st.integers(1, 5000))
def test_largest_is_the_head_of_a_stable_sort(row: np.ndarray, k: int) -> None:
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))
    assert largest(row, k).tolist() == sorted(order[:k])


def test_large_vocabulary_takes_the_same_paths() -> None:
    rng = np.random.default_rng(5)
    for size in (49_152, 50_001):
        row = rng.normal(0, 2, size).astype(np.float32)
        row[rng.integers(0, size, 30)] += rng.uniform(4, 12, 30).astype(np.float32)
        best = int(row.argmax())
        for params in (
            SamplingParams(),
            SamplingParams(top_p=0.9),
            SamplingParams(top_k=50),
            SamplingParams(top_p=0.97, temperature=3.0),  # a nucleus of many thousands
            SamplingParams(min_p=0.01),
        ):
            expected, _ = reference(row, params)
            ends = np.cumsum(expected)
            likely = np.argsort(-expected)[:50]
            assert all(
                draw(row, best, params, float(ends[i] - expected[i] / 2)) == i
                for i in likely
                if expected[i] > 1e-3
            )
            chosen = [draw(row, best, params, u) for u in np.linspace(0, 0.999999, 40)]
            exact = [
                int(np.searchsorted(ends, u, side="right")) for u in np.linspace(0, 0.999999, 40)
            ]
            assert np.abs(ends[chosen] - ends[exact]).max() < 1e-5


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 5},
        {"top_p": 0.8, "temperature": 1.5},
        {"min_p": 0.1},
        {"top_k": 9, "top_p": 0.9, "min_p": 0.05, "temperature": 2.0},
    ],
)
@pytest.mark.parametrize("vary", ["place", "seed"])
def test_frequencies_match_the_probabilities(params: dict[str, Any], vary: str) -> None:
    """Chi-square over 3,000 draws: from one seed at many places, and from many seeds."""
    size, draws = 12, 3000
    row = np.random.default_rng(3).normal(0, 1.5, size).astype(np.float32)
    probabilities, clear = reference(row, SamplingParams(**params))
    assert clear
    expected = probabilities * draws
    if vary == "place":
        state = sampler(size, seed=11, **params)
        tokens = [choose(row[None], state)[0].token_id for _ in range(draws)]
    else:
        states = [sampler(size, seed=seed, **params) for seed in range(draws)]
        tokens = [s.token_id for s in choose(np.tile(row, (draws, 1)), *states)]
    counts = np.bincount(tokens, minlength=size)
    assert not counts[expected == 0].any()
    possible = expected > 0
    chi2 = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    # Mean + 5 standard deviations of the chi-square distribution: one failure in 10^4 at most,
    # and the seeds are fixed.
    freedom = possible.sum() - 1
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom)


def test_greedy_takes_the_largest_and_the_lowest_of_equals() -> None:
    logits = torch.randn(16, 1001, generator=torch.Generator().manual_seed(0))
    logits[3] = 0
    logits[4, 700] = logits[4, 20] = 50
    chosen = choose(logits, *[sampler(1001, temperature=0) for _ in range(16)])
    assert [s.token_id for s in chosen] == logits.argmax(1).tolist()
    assert (chosen[3].token_id, chosen[4].token_id) == (0, 20)


@settings(deadline=None, max_examples=50)
@given(rows(st.sampled_from([3, 50, 1100])), st.sampled_from([1e-45, 0.7, 100.0]))
def test_what_must_equal_greedy_does(row: np.ndarray, temperature: float) -> None:
    best = int(row.argmax())
    for params in (
        SamplingParams(temperature=temperature, top_k=1),
        SamplingParams(temperature=temperature, top_p=1e-9),
        SamplingParams(temperature=1e-45, top_k=1, top_p=0.5, min_p=1.0),
    ):
        assert draw(row, best, params, 0.999) == best
    cold = draw(row, best, SamplingParams(temperature=1e-45), 0.4)
    assert row[cold] == row[best]


MIXED: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0, "logprobs": 3},
    {"seed": 1},
    {"seed": 2, "top_p": 0.9},
    {"seed": 3, "top_k": 7, "logprobs": 0},
    {"seed": 4, "min_p": 0.05, "repetition_penalty": 1.3},
    {"seed": 5, "frequency_penalty": 0.5, "presence_penalty": 0.2},
    {"seed": 6, "logit_bias": {3: 5.0, 4: -100.0}},
]


def run(order: Sequence[int], steps: int = 12, size: int = 1237) -> dict[int, list[Sampled]]:
    """Decode the mixed requests together; each row's logits depend on its last token only."""
    states = {i: SequenceSampler(SamplingParams(**MIXED[i]), [1, 2, 3], size) for i in order}
    table = torch.randn(size + 7, size + 5, generator=torch.Generator().manual_seed(9)) * 3
    last = {i: i for i in order}
    out: dict[int, list[Sampled]] = {i: [] for i in order}
    for _ in range(steps):
        logits = torch.stack([table[last[i]] for i in order])
        before = logits.clone()
        for i, sampled in zip(order, choose(logits, *[states[i] for i in order]), strict=True):
            out[i].append(sampled)
            last[i] = sampled.token_id
        assert torch.equal(logits, before)
    return out


def test_a_row_does_not_depend_on_its_batch() -> None:
    everyone = range(len(MIXED))
    together = run(everyone)
    assert run(everyone[::-1]) == together
    assert run([2, 5, 7]) == {i: together[i] for i in (2, 5, 7)}
    for i in everyone:
        assert run([i])[i] == together[i]


def test_seeds_decide() -> None:
    logits = torch.zeros(1, 1000)

    def tokens(seed: int | None) -> list[int]:
        state = sampler(1000, seed=seed)
        return [choose(logits, state)[0].token_id for _ in range(8)]

    assert tokens(7) == tokens(7)
    assert tokens(2**200) == tokens(2**200)
    assert len({tuple(tokens(seed)) for seed in (0, 1, -1, 2**64, 2**200, None, None)}) == 7


def test_the_draw_of_a_place_does_not_depend_on_what_was_drawn_before() -> None:
    """So a sequence can be rebuilt from its tokens after preemption or in another process."""
    logits = torch.randn(6, 1, 500, generator=torch.Generator().manual_seed(1))
    state = sampler(500, seed=3, frequency_penalty=1.0)
    tokens = [choose(step, state)[0].token_id for step in logits]
    rebuilt = sampler(500, seed=3, frequency_penalty=1.0)
    for token in tokens[:4]:
        rebuilt.accept(token)
    assert [choose(step, rebuilt)[0].token_id for step in logits[4:]] == tokens[4:]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
@pytest.mark.parametrize(
    "params", [{"temperature": 0}, {"seed": 1}, {"seed": 2, "logit_bias": {0: 1.0}}]
)
def test_only_the_row_with_bad_logits_fails(bad: float | None, params: dict[str, Any]) -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    alone = sample(logits[[0, 2]], [sampler(50, **params) for _ in range(2)])
    if bad is None:
        logits[1] = -torch.inf
    else:
        logits[1, 30] = bad
    results = sample(logits, [sampler(50, **params) for _ in range(3)])
    assert isinstance(results[1], RequestError)
    assert "not finite" in str(results[1])
    assert [results[0], results[2]] == alone


@settings(deadline=None, max_examples=60)
@given(
    row=npst.arrays(np.float32, 30, elements=st.floats(-10, 10, width=32)),
    prompt=st.lists(st.integers(0, 29), max_size=40),
    output=st.lists(st.integers(0, 29), max_size=90),
    bias=st.dictionaries(st.integers(0, 29), st.floats(-100, 100), max_size=5),
    repetition=st.sampled_from([1.0, 1.2, 0.5]),
    frequency=st.sampled_from([0.0, 0.7, -0.7]),
    presence=st.sampled_from([0.0, 1.5, -1.5]),
    min_tokens=st.sampled_from([0, 20, 200]),
)
def test_edits_are_those_of_the_documents(
    row: np.ndarray,
    prompt: list[int],
    output: list[int],
    bias: dict[int, float],
    repetition: float,
    frequency: float,
    presence: float,
    min_tokens: int,
) -> None:
    params = SamplingParams(
        repetition_penalty=repetition,
        frequency_penalty=frequency,
        presence_penalty=presence,
        logit_bias=bias,
        min_tokens=min_tokens,
        stop_token_ids=(4, 5),
    )
    state = SequenceSampler(params, prompt, 30, eos_token_ids=[6])
    for token in output:
        state.accept(token)
    expected = row.astype(np.float64)
    for token in range(30):
        expected[token] += bias.get(token, 0.0)
        if repetition != 1 and token in {*prompt, *output}:
            expected[token] *= 1 / repetition if expected[token] > 0 else repetition
        count = output.count(token)
        expected[token] -= frequency * count + presence * (count > 0)
        if token in (4, 5, 6) and len(output) < min_tokens:
            expected[token] = -np.inf
    original = row.copy()
    np.testing.assert_allclose(state.edited(row), expected, rtol=1e-5, atol=1e-4)
    assert np.array_equal(row, original)
    assert state.edits or np.array_equal(state.edited(row), row)


def test_log_probabilities_are_of_the_raw_logits() -> None:
    logits = torch.randn(1, 3000, generator=torch.Generator().manual_seed(4)) * 3
    logits[0, 10] = logits[0, 20] = logits.max() + 1
    params = {"temperature": 0.3, "logit_bias": {7: 100.0}, "logprobs": 5}
    (sampled,) = choose(logits, sampler(3000, **params))
    exact = torch.log_softmax(logits[0].double(), 0)
    assert sampled.token_id == 7
    assert sampled.logprob is not None
    assert sampled.logprob.token_id == 7
    assert sampled.logprob.logprob == pytest.approx(exact[7].item(), abs=1e-5)
    assert [token for token, _ in sampled.logprob.top][:2] == [10, 20]
    values, ids = exact.topk(5)
    assert {token for token, _ in sampled.logprob.top} == set(ids.tolist())
    assert [value for _, value in sampled.logprob.top] == pytest.approx(values.tolist(), abs=1e-5)
    (plain,) = choose(logits, sampler(3000, temperature=0, logprobs=0))
    assert plain.logprob is not None
    assert plain.logprob.top == ()
    assert choose(logits, sampler(3000))[0].logprob is None


def test_impossible_tokens_are_no_alternatives() -> None:
    (sampled,) = choose([[0.0, -torch.inf, 1.0]], sampler(3, logprobs=3, temperature=0))
    assert sampled.logprob is not None
    assert [token for token, _ in sampled.logprob.top] == [2, 0]
    json.dumps(sampled.logprob.top, allow_nan=False)


def test_padding_of_the_embedding_is_never_chosen() -> None:
    logits = torch.zeros(1, 64)
    logits[0, 40:] = 30
    assert choose(logits, sampler(40, temperature=0))[0].token_id == 0
    assert choose(logits, sampler(40, seed=1))[0].token_id < 40


@pytest.mark.parametrize("params", [{"logit_bias": {40: 1.0}}, {"stop_token_ids": (-1,)}])
def test_token_ids_must_be_in_the_vocabulary(params: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="0 to 39"):
        sampler(40, **params)


def test_ends() -> None:
    def ends(token: int, **params: Any) -> str | None:
        state = SequenceSampler(SamplingParams(**params), (), 10, eos_token_ids={8, 9})
        return state.accept(token)

    assert ends(8) == ends(9) == "stop_token"
    assert ends(3) is None
    assert ends(3, stop_token_ids=(3,)) == "stop_token"
    assert ends(8, ignore_eos=True) is None
    assert ends(8, ignore_eos=True, stop_token_ids=(8,)) == "stop_token"


def test_no_end_before_the_minimum() -> None:
    logits = torch.zeros(1, 10)
    logits[0, 9] = 20
    state = SequenceSampler(SamplingParams(temperature=0, min_tokens=3), (), 10, eos_token_ids={9})
    chosen = [choose(logits, state)[0] for _ in range(4)]
    assert [s.token_id for s in chosen] == [0, 0, 0, 9]
    assert [s.end for s in chosen] == [None, None, None, "stop_token"]


def test_constraint_decides_over_everything() -> None:
    tokenizer = train_tokenizer(["yes no maybe"] * 5, 280)
    constraint = Constraint(regex="yes|no")
    params = SamplingParams(
        constraint=constraint,
        temperature=0,
        logit_bias={tokenizer.encode("m")[0]: 100.0},
        min_tokens=50,  # cannot be: the constraint ends before
    )
    compiled = ConstraintCompiler(tokenizer).compile(constraint)
    state = SequenceSampler(params, (), tokenizer.vocab_size, tokenizer.eos_token_ids, compiled)
    logits = torch.randn(
        30, 1, tokenizer.vocab_size + 3, generator=torch.Generator().manual_seed(0)
    )
    tokens = []
    for step in logits:
        (sampled,) = choose(step, state)
        tokens.append(sampled.token_id)
        if sampled.end:
            break
    assert sampled.end == "constraint"
    assert tokenizer.decode(tokens) in ("yes", "no")


def test_constraint_that_allows_only_the_end_ends_before_the_minimum() -> None:
    tokenizer = train_tokenizer(["a b"] * 5, 270)
    constraint = Constraint(regex="")
    state = SequenceSampler(
        SamplingParams(constraint=constraint, min_tokens=5, seed=0),
        (),
        tokenizer.vocab_size,
        tokenizer.eos_token_ids,
        ConstraintCompiler(tokenizer).compile(constraint),
    )
    (sampled,) = choose(torch.zeros(1, tokenizer.vocab_size), state)
    assert sampled.token_id in tokenizer.eos_token_ids
    assert sampled.end == "stop_token"


def test_mistakes_of_the_caller_are_found() -> None:
    with pytest.raises(AssertionError, match="float32"):
        sample(torch.zeros(1, 5, dtype=torch.bfloat16).half(), [sampler(5)])
    with pytest.raises(AssertionError, match="2 sequences"):
        sample(torch.zeros(1, 5), [sampler(5), sampler(5)])
    with pytest.raises(AssertionError, match="vocabulary of 9"):
        sample(torch.zeros(1, 5), [sampler(9)])
    with pytest.raises(AssertionError, match="compile"):
        sampler(5, constraint=Constraint(regex="a"))
