"""What the commands do that are no more than a call; the others are in ``everlong/apps``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from everlong.apps.models import Texts
from everlong.memory.memory import bytes_of, default_folder
from everlong.memory.owner import owned

Weights = Literal["auto", "float32", "bf16", "int8", "int4"]
Suite = Literal["understanding", "code", "reasoning", "multilingual", "memory", "safety", "all"]


def chat(
    model: str = "smollm2-135m",
    system: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
    weights: Weights = "auto",
    max_model_len: int | None = None,
    attention: Literal["dense", "routed"] = "dense",
    session: str | None = None,
    memory: Path | None = None,
    memory_size: str = "16GB",
    memory_kv_dtype: Literal["auto", "int8"] = "auto",
    embedder: str | None = None,
    no_memory: bool = False,
) -> None:
    """Talk to a model in the terminal; it remembers.

    Args:
        model: name, folder or file.
        system: system prompt instead of the template's own.
        temperature: 0 always takes the likeliest token; default: as the model's makers say, or 0.7.
        top_p: keep the likeliest tokens up to this probability; default: as they say, or 0.95.
        max_tokens: most tokens of an answer.
        seed: makes answers repeatable.
        weights: how weights are kept; auto keeps the file's own values.
        max_model_len: window in tokens.
        attention: routed reads, at long context, what the text asks for; windows may be longer.
        session: name of the conversation that goes on; default: a new one.
        memory: folder of the memory; default: everlong/memory among the user's data.
        memory_size: most bytes of keys and values on disk, such as 500MB.
        memory_kv_dtype: keys and values on disk as they are, or rounded, in half of the bytes.
        embedder: sentence encoder of recall, such as minilm-l6; default: the model's own words.
        no_memory: remember nothing.
    """
    from everlong.apps.chat import chat as talk

    given = _given(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
    with ExitStack() as opened:
        kept = None
        if not no_memory:
            kept = opened.enter_context(owned(memory or default_folder(), bytes_of(memory_size)))
        llm = opened.enter_context(
            _load(model, weights, max_model_len, attention, kept, embedder, memory_kv_dtype)
        )
        talk(llm, given, system, session)


def generate(
    prompt: str,
    model: str = "smollm2-135m",
    max_tokens: int = 256,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    stop: Texts = (),
    seed: int | None = None,
    json_schema: str | None = None,
    regex: str | None = None,
    weights: Weights = "auto",
    max_model_len: int | None = None,
    attention: Literal["dense", "routed"] = "dense",
) -> None:
    """Continue a text and print what follows.

    Where nothing is said about sampling, the model's makers decide (its generation config), and
    where they say nothing, tokens are drawn as they are likely.

    Args:
        prompt: the text; - reads it from standard input.
        model: name, folder or file.
        max_tokens: most tokens to write.
        temperature: 0 always takes the likeliest token.
        top_k: keep this many likeliest tokens; 0 keeps all.
        top_p: keep the likeliest tokens up to this probability.
        min_p: keep tokens at least this fraction as likely as the likeliest.
        stop: text before which writing ends, or a list of them.
        seed: makes the output repeatable.
        json_schema: a JSON schema that the output satisfies.
        regex: a regular expression that the output matches.
        weights: how weights are kept; auto keeps the file's own values.
        max_model_len: window in tokens.
        attention: routed reads, at long context, what the text asks for; windows may be longer.
    """
    from everlong.engine.request import Constraint

    constraint = None
    if json_schema is not None or regex is not None:
        constraint = Constraint(json_schema=json_schema, regex=regex)
    given = _given(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        stop=several(stop),
        seed=seed,
        constraint=constraint,
    )
    text = sys.stdin.read() if prompt == "-" else prompt
    with _load(model, weights, max_model_len, attention) as llm:
        for chunk in llm.stream(text, **given):
            print(chunk.text, end="", flush=True)
        print()


def bench(
    model: str = "smollm2-135m",
    weights: Weights = "auto",
    repeats: int = 3,
    llama_cpp: bool = False,
) -> None:
    """Measure how fast a model runs here: reading, one stream, 16 streams.

    Args:
        model: name, folder or file.
        weights: how weights are kept; auto keeps the file's own values.
        repeats: runs of each figure, of which the median is shown.
        llama_cpp: measure llama.cpp beside it (GGUF files; needs xllamacpp).
    """
    from rich.console import Console

    from everlong.apps.llama_cpp import measure_llama_cpp
    from everlong.apps.measure import measure, rates_table
    from everlong.checkpoint.catalog import resolve

    with _load(model, weights, None) as llm:
        ours = measure(llm, repeats=repeats)
    theirs = measure_llama_cpp(resolve(model), repeats=repeats) if llama_cpp else None
    Console().print(rates_table(ours, theirs))


def calibrate(model: str, *, text: Path | None = None, weights: Weights = "auto") -> None:
    """Find what routed attention needs of a model, and keep it; the first use does so, too.

    Args:
        model: name, folder or file.
        text: find it anew, on this file of the kind that the model will read; default: Python's
            own manual, if nothing is kept yet.
        weights: as the model will be used.
    """
    from everlong.checkpoint.loading import open_model
    from everlong.checkpoint.projection import projection_of

    found = projection_of(open_model(model, weights), text=text, say=print)
    layers, heads, size, directions = found.encoder.shape
    print(f"{directions} of {size} directions for each of {layers} layers and {heads} kv heads")


def route(
    model: str,
    *,
    prompt_file: Path,
    out: Path = Path("routing"),
    pieces: int | None = None,
    tokens: int | None = None,
    text: Path | None = None,
    weights: Weights = "auto",
) -> None:
    """See which blocks of a text routed attention reads: a heat map, figures, the passages.

    Args:
        model: name, folder or file.
        prompt_file: the text, in UTF-8.
        out: folder for reads.png, routing.json and blocks.md.
        pieces: of 4 tokens that are chosen, besides the beginning and the end; default: as many
            as a prompt's tokens choose.
        tokens: read so many of the text; default: as many as the window holds.
        text: file to calibrate the index on; default: Python's own manual, once for each model.
        weights: how weights are kept; auto keeps the file's own values.
    """
    from everlong.apps.route import route as show
    from everlong.model.routing import Budget

    budget = Budget(prompt=Budget.prompt if pieces is None else pieces, dense=0)
    show(model, prompt_file, out, weights=weights, budget=budget, text=text, tokens=tokens)


def demo(model: str = "smollm2-135m") -> None:
    """A tour of at most two minutes: answers, sixteen streams, JSON, memory, speed.

    Args:
        model: an instruct model; fetched if need be.
    """
    from everlong.apps.demo import demo as tour
    from everlong.checkpoint.catalog import pull as fetch
    from everlong.checkpoint.progress import terminal_progress

    with terminal_progress() as progress:
        path = fetch(model, progress)
    with _load(model, "auto", None) as llm:
        tour(llm, path if path.suffix == ".gguf" else None, model)


def serve(config: Any) -> None:
    """Serve a model to OpenAI's clients and on a page."""
    from everlong.serving.app import serve as run

    run(config)


def evaluate(
    model: str,
    data: Path = Path("data"),
    suite: Suite = "understanding",
    tasks: Texts = (),
    limit: int | None = None,
    shots: int | None = None,
    chat: bool = False,
    parts: bool = False,
    out: Path | None = None,
    weights: Weights = "auto",
    max_model_len: int | None = None,
    download: bool = False,
    processes: int = 1,
) -> None:
    """Measure a model on public tasks, with 95 % intervals.

    Args:
        model: name, folder or file.
        data: folder with the data sets.
        suite: which tasks.
        tasks: only these of the suite, one or a list.
        limit: only so many examples of each, a fair sample of its parts.
        shots: solved examples before each question; default: as each task's protocol says.
        chat: ask what is answered in writing through the model's chat template.
        parts: show the figures of languages and other parts of tasks, too.
        out: folder for figures and every answer, for eval compare and eval report.
        weights: how weights are kept; auto keeps the file's own values.
        max_model_len: window in tokens.
        download: fetch sets that are not in the folder from the Hugging Face hub, if it has them.
        processes: with a copy of the model and a part of the cores each.
    """
    from everlong.apps.evaluate import evaluate as measure
    from everlong.engine.config import EngineConfig
    from everlong.evaluation.processes import Processes
    from everlong.evaluation.task import Model, Settings

    settings = Settings(shots, chat)
    # Nobody waits for a single token here: more at a time is faster.
    engine = EngineConfig(max_model_len, max_num_seqs=64, max_num_batched_tokens=1024)
    loaded = Model(model, weights, engine)
    with Processes(loaded, processes) as others, loaded.load() as llm:
        chosen = several(tasks)
        measure(llm, data, suite, chosen, settings, limit, out, parts, download, others, loaded)


def compare(a: Path, b: Path, tasks: Texts = ()) -> None:
    """Tell which of two models is better on which task, by paired tests.

    Args:
        a: folder that everlong eval --out wrote.
        b: another one.
        tasks: only these, one or a list.
    """
    from everlong.apps.evaluate import show_comparison

    show_comparison(a, b, several(tasks))


def report(
    folders: Texts, out: Path = Path("report"), peer: Path | None = None, pictures: bool = True
) -> None:
    """Write the figures of models as Markdown, JSON and pictures.

    Args:
        folders: that everlong eval --out wrote, one or a list.
        out: folder for the report.
        peer: results file of lm_eval --output_path, of the first model's weights.
        pictures: draw them, with matplotlib.
    """
    from everlong.apps.evaluate import make_report

    make_report([Path(folder) for folder in several(folders)], peer, out, pictures)


# The parser evaluates this module's annotations, and naming LLM would import PyTorch for --help.
def _load(
    model: str,
    weights: Weights,
    max_model_len: int | None,
    attention: Literal["dense", "routed"] = "dense",
    memory: Any = None,
    embedder: str | None = None,
    memory_kv_dtype: Literal["auto", "int8"] = "auto",
) -> Any:
    from everlong.engine.config import EngineConfig
    from everlong.engine.loading import load

    return load(
        model,
        weights=weights,
        engine=EngineConfig(
            max_model_len=max_model_len, memory_kv_dtype=memory_kv_dtype, attention=attention
        ),
        memory=memory,
        embedder=embedder,
    )


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that have a value; the others are left to the model's defaults."""
    return {name: value for name, value in fields.items() if value is not None}


def several(texts: Texts) -> tuple[str, ...]:
    """An option that is given once or several times."""
    return (texts,) if isinstance(texts, str) else tuple(texts)
