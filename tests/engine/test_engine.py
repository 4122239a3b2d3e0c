"""The engine as its users meet it: alone, together, cancelled, short of blocks."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everlong.engine.block_pool import LEAD
from everlong.engine.llm import LLM
from everlong.engine.request import Chunk, Completion, Constraint, SamplingParams
from everlong.errors import (
    ContextLengthError,
    EngineStoppedError,
    EverlongError,
    QueueFullError,
    RequestError,
    UnknownModelError,
)
from everlong.model.cache import BLOCK
from tests.engine.tiny import all_blocks_free, tiny_llm

GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)


@pytest.fixture(scope="module")
def llm():
    with tiny_llm(deterministic=True) as made:
        yield made


def prompt(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, 300, (length,), generator=generator).tolist()


@pytest.mark.parametrize("weights", ["bf16", "float32", "int8", "int4"])
def test_generation_follows_the_logits(weights: Any) -> None:
    """Each greedy token is the likeliest after the tokens before it."""
    with tiny_llm(weights, deterministic=True) as made:
        done = made.generate([prompt(100)], GREEDY)[0]
        logits = made.logits([*prompt(100), *done.token_ids])
        assert done.token_ids == tuple(logits[99:-1].argmax(-1).tolist())
        assert done.finish_reason == "length"
        assert done.usage.completion_tokens == 24
        assert done.text == made.tokenizer.decode(done.token_ids)


def test_many_prompts_keep_their_order(llm: LLM) -> None:
    prompts = [prompt(5 + i, seed=i) for i in range(40)]
    together = llm.generate(prompts, GREEDY)
    alone = [llm.generate([p], GREEDY)[0] for p in prompts]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]


def test_most_requests_are_the_same_without_the_flag() -> None:
    """Greedy requests alone and among others: only near ties may fall the other way."""
    prompts = [prompt(10 + 2 * i, seed=i) for i in range(64)]
    with tiny_llm(max_num_seqs=16) as made:
        together = [c.token_ids for c in made.generate(prompts, GREEDY)]
    with tiny_llm(max_num_seqs=1) as made:
        alone = [c.token_ids for c in made.generate(prompts, GREEDY)]
        pairs = zip(prompts, together, alone, strict=True)
        parted = [(p, a, b) for p, a, b in pairs if a != b]
        for asked, a, b in parted:
            at = next(i for i in range(len(a)) if a[i] != b[i])
            logits = made.logits([*asked, *b[:at]])[-1]
            assert abs(logits[a[at]] - logits[b[at]]) < 0.05 * logits.std()
    # A random model ties often, and where matrix units serve many rows the rounding differs more.
    assert len(parted) < 24


def test_a_known_prefix_is_not_computed_again() -> None:
    with tiny_llm(deterministic=True) as made:
        first = made.generate([prompt(200)], GREEDY)[0]
        again = made.generate([prompt(200)], GREEDY)[0]
        assert (first.usage.cached_tokens, again.usage.cached_tokens) == (0, 192)
        assert again.token_ids == first.token_ids
        # What was generated is known as well.
        longer = [*prompt(200), *first.token_ids, *prompt(60, seed=5)]
        assert made.generate([longer], GREEDY)[0].usage.cached_tokens == 223
        stats = made.engine.stats()
        assert stats.cached_tokens == 192 + 223
        assert stats.prompt_tokens == 200 + 200 + 284
        # The last token is always computed: its logits are needed.
        whole = made.generate([prompt(128)], GREEDY)[0]
        assert whole.usage.cached_tokens == 127


def test_equal_prompts_that_arrive_together_share_their_blocks() -> None:
    with tiny_llm(max_num_seqs=8) as made:
        done = made.generate([prompt(300)] * 8, GREEDY)
        assert len({c.token_ids for c in done}) == 1
        assert [c.usage.cached_tokens for c in done] == [0] + [299] * 7


@pytest.mark.parametrize("shared", [10, 16, 40, 63, 64, 80, 150])
def test_prompts_that_begin_alike_compute_that_once(shared: int) -> None:
    """Whatever the place where they part, and whether they come together or one by one."""
    prompts = [prompt(shared) + prompt(30 + i, seed=i) for i in range(1, 7)]
    with tiny_llm(deterministic=True) as made:
        alone = [made.generate([p], GREEDY, namespace=str(i))[0] for i, p in enumerate(prompts)]
        one_by_one = [made.generate([p], GREEDY)[0] for p in prompts]
        together = made.generate(prompts, GREEDY, namespace="together")
    assert {c.usage.cached_tokens for c in alone} == {0}
    known = shared if shared % BLOCK >= LEAD else shared // BLOCK * BLOCK
    for done in (one_by_one, together):
        assert [c.token_ids for c in done] == [c.token_ids for c in alone]
        assert done[0].usage.cached_tokens == 0
        # A token or two more may be equal by chance.
        assert all(known <= c.usage.cached_tokens <= known + 2 for c in done[1:])


def test_copies_of_beginnings_are_made_when_the_pool_is_full() -> None:
    """The block that is copied from may be the oldest one, which a new block would take."""
    with tiny_llm(blocks=4, max_num_seqs=1, deterministic=True) as made:
        first = made.generate([prompt(100)], GREEDY)[0]
        for seed in range(1, 6):
            made.generate([prompt(100, seed=seed)], GREEDY)
            changed = [*prompt(40), *prompt(60, seed=seed)]
            made.generate([changed], GREEDY)
        assert made.generate([prompt(100)], GREEDY)[0].token_ids == first.token_ids
        assert made.engine.stats().blocks_used == 0


def test_namespaces_do_not_share_blocks() -> None:
    with tiny_llm() as made:
        made.generate([prompt(200)], GREEDY, namespace="a")
        assert made.generate([prompt(200)], GREEDY, namespace="b")[0].usage.cached_tokens == 0
        assert made.generate([prompt(40)], GREEDY, namespace="c")[0].usage.cached_tokens == 0
        assert made.generate([prompt(200)], GREEDY, namespace="a")[0].usage.cached_tokens == 192


def test_adapters_change_their_own_requests_only(llm: LLM) -> None:
    prompts = [prompt(90, seed=i) for i in range(6)]
    plain = [llm.generate([p], GREEDY)[0].token_ids for p in prompts]
    names = [None, "one", "two", "one", None, "two"]
    alone = [
        llm.generate([p], GREEDY, adapter=name)[0].token_ids
        for p, name in zip(prompts, names, strict=True)
    ]
    streams = [llm.stream(p, GREEDY, adapter=n) for p, n in zip(prompts, names, strict=True)]
    together = [tuple(i for chunk in s for i in chunk.token_ids) for s in streams]
    assert together == alone
    changed = [a != b for a, b in zip(alone, plain, strict=True)]
    assert changed == [name is not None for name in names]
    # Blocks computed under an adapter are not found without it.
    assert llm.generate([prompts[1]], GREEDY)[0].token_ids == plain[1]
    with pytest.raises(UnknownModelError, match="'three' is not loaded; loaded are: one, two"):
        llm.generate([prompts[0]], adapter="three")


def test_chunks_are_the_completion(llm: LLM) -> None:
    params = SamplingParams(seed=3, max_tokens=40, logprobs=2, ignore_eos=True)
    chunks = list(llm.stream(prompt(20), params))
    whole = llm.generate([prompt(20)], params)[0]
    assert "".join(c.text for c in chunks) == whole.text
    assert tuple(i for c in chunks for i in c.token_ids) == whole.token_ids
    assert [c.finish_reason for c in chunks] == [None] * 39 + ["length"]
    assert whole.logprobs is not None
    assert [lp.token_id for lp in whole.logprobs] == list(whole.token_ids)
    assert all(len(lp.top) == 2 for lp in whole.logprobs)
    logits = llm.logits([*prompt(20), *whole.token_ids])[19:-1]
    expected = logits.log_softmax(-1)[range(40), list(whole.token_ids)]
    got = torch.tensor([lp.logprob for lp in whole.logprobs])
    assert torch.allclose(got, expected, atol=1e-4)


def test_stop_string_ends_the_text_before_it(llm: LLM) -> None:
    free = llm.generate([prompt(20)], GREEDY)[0]
    middle = free.text[len(free.text) // 2 :][:3]
    cut = llm.generate([prompt(20)], GREEDY, stop=(middle,))[0]
    assert cut.finish_reason == "stop"
    assert cut.text == free.text[: free.text.index(middle)]


def test_end_of_sequence_ends_generation(llm: LLM) -> None:
    free = llm.generate([prompt(20)], GREEDY)[0]
    end = free.token_ids[9]
    first = free.token_ids.index(end)
    cut = llm.generate([prompt(20)], GREEDY, stop_token_ids=(end,))[0]
    assert cut.token_ids == free.token_ids[: first + 1]
    assert cut.finish_reason == "stop"
    assert cut.text == llm.tokenizer.decode(free.token_ids[:first])


def test_constrained_output_has_the_form(llm: LLM) -> None:
    params = SamplingParams(seed=1, max_tokens=60, constraint=Constraint(regex="[0-9]{3}-(a|b)+c"))
    done = llm.generate([prompt(9)], params)[0]
    import re

    assert re.fullmatch("[0-9]{3}-(a|b)+c", done.text)
    assert done.finish_reason == "stop"


def test_closing_a_stream_frees_its_blocks() -> None:
    with tiny_llm() as made:
        stream = made.stream(prompt(100), GREEDY, max_tokens=900)
        assert next(stream).token_ids
        assert made.engine.stats().running == 1
        stream.close()  # type: ignore[attr-defined]
        assert all_blocks_free(made)
        assert made.engine.stats().requests_finished == {"cancelled": 1}
        # So does dropping one that was never read.
        del stream
        made.stream(prompt(100), GREEDY, max_tokens=900).close()  # type: ignore[attr-defined]
        assert all_blocks_free(made)


def test_requests_that_cannot_be_served_are_refused_with_numbers(llm: LLM) -> None:
    with pytest.raises(ContextLengthError, match=r"window has 1024 .* 1000 .* 100 for the output"):
        llm.generate([prompt(1000)], max_tokens=100)
    with pytest.raises(ContextLengthError, match=r"window has 1024 tokens.*1024 for the prompt"):
        llm.generate([prompt(1024)])
    with pytest.raises(RequestError, match="prompt is empty"):
        llm.generate([[]])
    with pytest.raises(RequestError, match="allowed are 0 to"):
        llm.generate([[1, 99999]])
    with pytest.raises(RequestError, match="temperature must be between"):
        llm.generate("a", temperature=-1)
    with pytest.raises(RequestError, match="'temprature' is no parameter"):
        llm.generate("a", temprature=1)
    assert llm.generate([prompt(1000)], GREEDY)[0].finish_reason == "length"


def test_the_queue_is_bounded() -> None:
    with tiny_llm(max_num_seqs=1, max_waiting=2) as made:
        streams = [made.stream(prompt(10, seed=i), GREEDY, max_tokens=500) for i in range(3)]
        with pytest.raises(QueueFullError, match="3 are allowed") as refused:
            made.stream(prompt(10), GREEDY)
        assert refused.value.retry_after > 0
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]
        assert all_blocks_free(made)
        assert made.generate([prompt(10)], GREEDY)[0].finish_reason == "length"


def test_closing_the_engine_fails_what_is_unfinished() -> None:
    made = tiny_llm(max_num_seqs=1)
    streams = [made.stream(prompt(10, seed=i), GREEDY, max_tokens=900) for i in range(2)]
    next(streams[0])
    made.close()
    for stream in streams:
        with pytest.raises(EngineStoppedError):
            list(stream)
    with pytest.raises(EngineStoppedError):
        made.generate("a")
    with pytest.raises(EngineStoppedError):
        made.logits([1])


def test_a_receiver_that_fails_harms_nobody_else(llm: LLM, caplog: Any) -> None:
    def broken(_: Chunk | EverlongError) -> None:
        raise ValueError("a broken receiver")

    llm.engine.submit(prompt(10), GREEDY, broken)
    assert llm.generate([prompt(10)], GREEDY)[0].finish_reason == "length"
    assert "receiver failed" in caplog.text


def test_a_step_that_fails_takes_only_its_requests(monkeypatch: Any) -> None:
    with tiny_llm() as made:
        runner = made.engine.call(lambda r: r).result()
        real, broken = runner.run, threading.Event()

        def run(plan: Any) -> Any:
            if not broken.is_set():
                broken.set()
                raise MemoryError("no room")
            return real(plan)

        monkeypatch.setattr(runner, "run", run)
        with pytest.raises(EngineStoppedError, match="no room"):
            made.generate([prompt(70)], GREEDY)
        assert made.generate([prompt(70)], GREEDY)[0].finish_reason == "length"
        assert all_blocks_free(made)


REFERENCE: dict[Any, Completion] = {}


def alone(p: tuple[int, ...], params: SamplingParams) -> Completion:
    """What a request gives when nothing else runs; kept."""
    key = (p, params.max_tokens, params.temperature, params.seed)
    if key not in REFERENCE:
        with tiny_llm(deterministic=True) as made:
            REFERENCE[key] = made.generate([p], params)[0]
    return REFERENCE[key]


requests = st.fixed_dictionaries(
    {
        "length": st.integers(1, 250),
        "seed": st.integers(0, 3),
        "max_tokens": st.integers(1, 60),
        "temperature": st.sampled_from([0.0, 1.0]),
        "cancel_after": st.sampled_from([None, None, None, 0, 1, 20]),
    }
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    asked=st.lists(requests, min_size=1, max_size=12),
    blocks=st.integers(5, 24),
    seqs=st.integers(1, 8),
    chunk=st.sampled_from([8, 33, 64, 512]),
)
def test_what_runs_beside_a_request_does_not_change_it(
    asked: list[dict[str, Any]], blocks: int, seqs: int, chunk: int
) -> None:
    """Arrivals, cancellations, shared prefixes, small pools, preemption: the same tokens."""
    made = tiny_llm(
        blocks=blocks, max_num_seqs=seqs, max_num_batched_tokens=chunk, deterministic=True
    )
    with made:
        received: list[queue.SimpleQueue[Any]] = []
        handles: list[Any] = []
        for i, ask in enumerate(asked):
            inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
            received.append(inbox)
            cancel_after, count = ask["cancel_after"], [0]

            def sink(item: Any, i=i, inbox=inbox, after=cancel_after, count=count) -> None:
                inbox.put(item)
                count[0] += 1
                if after is not None and count[0] == after:
                    made.engine.cancel(handles[i])

            params = SamplingParams(
                max_tokens=ask["max_tokens"],
                temperature=ask["temperature"],
                seed=7,
                ignore_eos=True,
            )
            # Prompts of one seed are prefixes of each other.
            p = tuple(prompt(250, seed=ask["seed"])[: ask["length"]])
            handles.append(None)
            handles[i] = made.engine.submit(p, params, sink)
            if cancel_after == 0:
                made.engine.cancel(handles[i])
        for ask, inbox in zip(asked, received, strict=True):
            chunks: list[Chunk] = []
            while not chunks or chunks[-1].finish_reason is None:
                item = inbox.get(timeout=60)
                assert not isinstance(item, EverlongError), item
                chunks.append(item)
            params = SamplingParams(
                max_tokens=ask["max_tokens"],
                temperature=ask["temperature"],
                seed=7,
                ignore_eos=True,
            )
            expected = alone(tuple(prompt(250, seed=ask["seed"])[: ask["length"]]), params)
            tokens = tuple(i for c in chunks for i in c.token_ids)
            if chunks[-1].finish_reason == "cancelled":
                assert ask["cancel_after"] is not None
                assert tokens == expected.token_ids[: len(tokens)]
            else:
                assert tokens == expected.token_ids
                assert "".join(c.text for c in chunks) == expected.text
        assert all_blocks_free(made)
        finished = made.engine.stats().requests_finished
        assert sum(finished.values()) == len(asked)
        assert blocks * BLOCK >= made.max_model_len


def test_preemption_happens_and_changes_nothing() -> None:
    params = SamplingParams(temperature=0, max_tokens=150, ignore_eos=True)
    prompts = [tuple(prompt(100, seed=i)) for i in range(4)]
    with tiny_llm(blocks=8, max_num_seqs=4, deterministic=True) as made:
        # They begin together: one that came late would wait for the blocks of the others.
        submitted = threading.Event()
        made.engine.call(lambda runner: submitted.wait())
        streams = [made.stream(p, params) for p in prompts]
        submitted.set()
        done = [tuple(i for chunk in stream for i in chunk.token_ids) for stream in streams]
        assert made.engine.stats().preemptions > 0
    assert done == [alone(p, params).token_ids for p in prompts]


def test_a_small_pool_serves_many_threads() -> None:
    with tiny_llm(blocks=20, max_num_seqs=4, deterministic=True) as made:
        results: dict[int, Completion] = {}

        def ask(i: int) -> None:
            results[i] = made.generate([prompt(30, seed=i)], GREEDY)[0]

        workers = [threading.Thread(target=ask, args=(i,)) for i in range(24)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert all_blocks_free(made)
        assert [results[i].token_ids for i in range(24)] == [
            made.generate([prompt(30, seed=i)], GREEDY)[0].token_ids for i in range(24)
        ]
