"""A model as it is opened by its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import everlong
from everlong.engine.request import SamplingParams
from tests.checkpoint.mutate import write_folder


def test_the_makers_sampling_is_the_default(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(write_folder(tmp_path)))
    file = tmp_path / "generation_config.json"
    file.write_text('{"temperature": 0.5, "top_k": 3}')
    with everlong.load(tmp_path) as llm:
        assert llm.default_sampling == SamplingParams(temperature=0.5, top_k=3)
        assert llm.generate("ab", max_tokens=4, temperature=0).usage.completion_tokens == 4
    file.write_text('{"temperature": 0.7, "top_k": -1, "repetition_penalty": 1.1}')
    with everlong.load(tmp_path) as llm:
        assert llm.default_sampling == SamplingParams(temperature=0.7, repetition_penalty=1.1)
    file.write_text('{"temperature": 0}')
    with everlong.load(tmp_path) as llm:
        greedy = llm.generate("ab", max_tokens=8)
        assert llm.generate("ab", max_tokens=8).token_ids == greedy.token_ids
        assert (
            llm.generate("ab", SamplingParams(seed=1, max_tokens=8)).token_ids != greedy.token_ids
        )
    assert not caplog.records
    file.write_text('{"temperature": -1}')
    with everlong.load(tmp_path) as llm:
        assert llm.default_sampling == SamplingParams()
    assert "temperature must be between 0 and 100" in caplog.text
