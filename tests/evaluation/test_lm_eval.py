"""Everlong as a model of lm-evaluation-harness, through the harness itself."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import tiny_llm

pytest.importorskip("lm_eval", reason="needs the extra eval")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the harness's own imports
        from everlong.evaluation import lm_eval as adapter

    monkeypatch.setattr(adapter, "load", lambda *_, **__: tiny_llm("float32"))
    made = adapter.EverlongLM("tiny")
    yield made
    made.llm.close()


def instance(kind: str, *arguments: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance(kind, {}, arguments, 0)  # type: ignore[arg-type]


def expected(model: Any, context: str, text: str) -> tuple[float, bool]:
    tokenizer = model.llm.tokenizer
    ids, start = tokenizer.encode(context + text), len(tokenizer.encode(context))
    rows = model.llm.logits(ids)[start - 1 : -1, : tokenizer.vocab_size].log_softmax(-1)
    wanted = ids[start:]
    total = sum(float(row[token]) for row, token in zip(rows, wanted, strict=True))
    return total, rows.argmax(-1).tolist() == wanted


def test_likelihoods_are_the_model_s_own(model: Any) -> None:
    pairs = [(f"a small model {n}", f" writes {m}") for n in range(3) for m in range(3)]
    asked = [instance("loglikelihood", *pair) for pair in pairs]
    found = model.loglikelihood(asked, disable_tqdm=True)
    for pair, (total, likeliest) in zip(pairs, found, strict=True):
        wanted, greedy = expected(model, *pair)
        assert total == pytest.approx(wanted, abs=1e-3)
        assert likeliest == greedy
    ((whole,),) = ([model.loglikelihood_rolling([instance("x", "words of its own")], True)[0]],)
    assert whole < 0


def test_a_long_text_is_read_in_windows(model: Any) -> None:
    text = "a small model writes words of its own " * 200
    assert len(model.tok_encode(text)) > model.max_length
    (whole,) = model.loglikelihood_rolling([instance("x", text)], disable_tqdm=True)
    (part,) = model.loglikelihood_rolling([instance("x", text[:200])], disable_tqdm=True)
    assert whole < part < 0


def test_answers_end_where_the_task_says(model: Any) -> None:
    plain = model.generate_until(
        [instance("generate_until", "a small", {"max_gen_toks": 20})], disable_tqdm=True
    )[0]
    end = plain[3:5]
    short = model.generate_until(
        [instance("generate_until", "a small", {"until": [end], "max_gen_toks": 20})],
        disable_tqdm=True,
    )[0]
    assert short == plain[: plain.index(end)]


def test_the_harness_knows_it_by_name(tmp_path: Path) -> None:
    """In a process of its own, as ``lm_eval --model everlong`` would find it."""
    source = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from everlong.evaluation import harness_plugin as plugin\n"
        "plugin.install(); plugin.install()\n"
        "import lm_eval.models\n"
        "from lm_eval.api.registry import get_model\n"
        "print(get_model('everlong').__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.stdout.strip() == "EverlongLM", done.stderr[-2000:]


def test_a_task_of_the_harness_runs(model: Any, tmp_path: Path) -> None:
    rows = [{"query": f"what is {n}?", "choices": ["one", "two"], "gold": n % 2} for n in range(6)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "little",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(tmp_path)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{query}}\nAnswer:",
        "doc_to_target": "{{gold}}",
        "doc_to_choice": "{{choices}}",
        "metric_list": [{"metric": "acc"}],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval import simple_evaluate

        done = simple_evaluate(model, tasks=[task], bootstrap_iters=0, log_samples=True)
    assert done is not None
    wrong = 0
    for sample in done["samples"]["little"]:
        scores = [
            expected(model, f"{sample['doc']['query']}\nAnswer:", f" {c}")[0]
            for c in ("one", "two")
        ]
        wrong += sample["acc"] != float(scores.index(max(scores)) == sample["doc"]["gold"])
    assert wrong == 0
