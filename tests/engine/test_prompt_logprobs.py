"""A prompt's own tokens: how likely they were, whatever runs beside them and was found."""

from __future__ import annotations

import queue

import pytest
import torch

from everlong.engine.block_pool import LEAD
from everlong.engine.llm import LLM
from everlong.engine.request import Chunk, SamplingParams
from everlong.errors import EverlongError, RequestError
from everlong.model.cache import BLOCK
from tests.engine.tiny import all_blocks_free, tiny_llm


@pytest.fixture(scope="module")
def llm():
    with tiny_llm(deterministic=True) as made:
        yield made


def expected_logprobs(llm: LLM, prompt: list[int], start: int) -> torch.Tensor:
    rows = llm.logits(prompt)[start - 1 : -1, : llm.tokenizer.vocab_size].log_softmax(-1)
    return rows.gather(1, torch.tensor(prompt[start:])[:, None])[:, 0]


@pytest.mark.parametrize("start", [1, 63, 64, 65, 128, 199])
def test_the_prompt_s_log_probabilities(llm: LLM, start: int) -> None:
    prompt = [(i * i + start) % 250 for i in range(200)]
    greedy = {"temperature": 0, "ignore_eos": True}
    asked = {"prompt_logprobs_from": start, "logprobs": 2, **greedy}
    for tokens in (0, 0, 3):  # the second and third find what the first computed
        done = llm.generate([prompt], max_tokens=tokens, **asked)[0]
        assert done.prompt_logprobs is not None
        assert [p.token_id for p in done.prompt_logprobs] == prompt[start:]
        got = torch.tensor([p.logprob for p in done.prompt_logprobs])
        assert torch.allclose(got, expected_logprobs(llm, prompt, start), atol=1e-4)
        assert all(len(p.top) == 2 and p.top[0][1] >= p.logprob for p in done.prompt_logprobs)
        assert len(done.token_ids) == tokens
        assert done.finish_reason == "length"
    # Beginnings of less than LEAD tokens are not worth a copy.
    known = start - 1 if (start - 1) % BLOCK >= LEAD else (start - 1) // BLOCK * BLOCK
    assert done.usage.cached_tokens == known
    plain = llm.generate([prompt], max_tokens=3, **greedy)[0]
    assert plain.token_ids == done.token_ids
    assert plain.prompt_logprobs is None


def test_prompts_are_scored_beside_others_and_when_blocks_run_out() -> None:
    with tiny_llm(blocks=8, max_num_seqs=6, max_num_batched_tokens=100) as llm:
        prompts = [[(i * 7 + n) % 250 for i in range(90 + 20 * n)] for n in range(6)]
        received: list[queue.SimpleQueue[Chunk | EverlongError]] = []
        for n, prompt in enumerate(prompts):
            received.append(queue.SimpleQueue())
            scored = n % 3 != 2
            params = SamplingParams(
                temperature=0,
                ignore_eos=True,
                max_tokens=0 if n % 3 == 0 else 40,
                prompt_logprobs_from=5 + n if scored else None,
            )
            llm.engine.submit(prompt, params, received[-1].put)
        for n, (prompt, chunks) in enumerate(zip(prompts, received, strict=True)):
            first = item = chunks.get(timeout=60)
            while isinstance(item, Chunk) and item.finish_reason is None:
                item = chunks.get(timeout=60)
            assert isinstance(first, Chunk)
            assert isinstance(item, Chunk)
            assert item.finish_reason == "length"
            assert (first.prompt_logprobs is None) == (n % 3 == 2)
            if first.prompt_logprobs is not None:
                got = torch.tensor([p.logprob for p in first.prompt_logprobs])
                assert torch.allclose(got, expected_logprobs(llm, prompt, 5 + n), atol=0.1)
        assert all_blocks_free(llm)


def test_scoring_that_cannot_be(llm: LLM) -> None:
    with pytest.raises(RequestError, match="allowed are 1 to 2"):
        llm.generate([[1, 2, 3]], max_tokens=0, prompt_logprobs_from=3)
    with pytest.raises(RequestError, match="max_tokens must be at least 1"):
        llm.generate([[1, 2, 3]], max_tokens=0)
    with pytest.raises(RequestError, match="prompt_logprobs_from must be at least 1"):
        llm.generate([[1, 2, 3]], prompt_logprobs_from=0)
