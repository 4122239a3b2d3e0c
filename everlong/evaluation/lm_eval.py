"""Everlong as a model of EleutherAI's lm-evaluation-harness: ``lm_eval --model everlong``.

The harness finds a model by a name that somebody has registered, and has no way for a package to
announce itself. So either run its command line through this module, which takes the same
arguments::

    python -m everlong.evaluation.lm_eval --model everlong --model_args path=smollm2-135m \\
        --tasks arc_easy

or tell this environment once, with ``python -m everlong.evaluation.lm_eval register``; from then on
plain ``lm_eval --model everlong`` works. Importing this module needs the harness (``pip install
'everlong[eval]'``).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import model_registry
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from everlong.engine.config import EngineConfig
from everlong.engine.loading import load
from everlong.engine.request import Completion, SamplingParams
from everlong.errors import ConfigError
from everlong.evaluation import harness_plugin
from everlong.model.assemble import WeightsOption

logger = logging.getLogger(__name__)

Scored = tuple[tuple[str, str] | None, list[int], list[int]]
"""The harness's form of a request: its texts, and the token ids of context and continuation."""


class EverlongLM(TemplateLM):
    """A model for the harness.

    Args:
        path: name, folder or file, as :func:`everlong.load` takes it.
        weights: see there.
        max_length: window in tokens; None: the model's.
        max_gen_toks: most tokens of an answer where the task does not say.
        max_num_seqs: sequences computed together.
        max_num_batched_tokens: most tokens in one step.
        batch_size, max_batch_size, device: the harness passes them to every model. Everlong
            batches by itself and runs on the CPU: values other than the defaults are told about,
            and change nothing.

    Raises:
        ConfigError: an argument has a value that is not allowed.
    """

    def __init__(
        self,
        path: str = "smollm2-135m",
        weights: WeightsOption = "auto",
        max_length: int | None = None,
        max_gen_toks: int = 256,
        max_num_seqs: int = 128,
        max_num_batched_tokens: int = 1024,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        if batch_size not in (None, 1, "1", "auto") or max_batch_size is not None:
            logger.warning("Everlong batches by itself; batch_size=%s changes nothing", batch_size)
        if device not in (None, "cpu"):
            logger.warning("Everlong runs on the CPU; device=%s changes nothing", device)
        engine = EngineConfig(max_length, max_num_seqs, max_num_batched_tokens)
        self.llm = load(path, weights=weights, engine=engine)
        self._max_gen_toks = max_gen_toks
        self._rank, self._world_size = 0, 1

    @property
    def eot_token_id(self) -> int:
        """The token that ends texts."""
        tokenizer = self.llm.tokenizer
        named = tokenizer.token_id(tokenizer.named_tokens.get("eos_token", ""))
        return named if named is not None else min(tokenizer.eos_token_ids)

    @property
    def prefix_token_id(self) -> int:
        """What a text follows when it follows nothing: as the harness's own ``hf`` model."""
        begins = self.llm.tokenizer.bos_token_id
        return begins if begins is not None else self.eot_token_id

    @property
    def max_length(self) -> int:
        """Window in tokens."""
        return self.llm.max_model_len

    @property
    def tokenizer_name(self) -> str:
        """A name for the tokenizer: the harness keeps its requests under it."""
        return self.llm.tokenizer.fingerprint().hex()

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's text, or None when none is wanted."""
        template = self.llm.tokenizer.chat_template
        return template.source if template is not None and chat_template else None

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The messages as the model's template writes them."""
        template = self.llm.tokenizer.chat_template
        if template is None:
            raise ConfigError("the model has no chat template; leave out --apply_chat_template")
        return template.render(chat_history, add_generation_prompt=add_generation_prompt)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids; a text that begins with the token that begins texts gets no second one."""
        if add_special_tokens is None:
            begins = self.llm.tokenizer.named_tokens.get("bos_token")
            add_special_tokens = not (begins and string.startswith(begins))
        return self.llm.tokenizer.encode(string, bos=add_special_tokens)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-probability of whole texts, in windows of ``max_length``."""
        windows: list[Scored] = []
        counts = []
        for (text,) in (request.args for request in requests):
            pairs = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 1,
                context_len=1,
            )
            own: list[Scored] = [(None, *make_disjoint_window(pair)) for pair in pairs]
            windows += own
            counts.append(len(own))
        scores = iter(self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm))
        totals = [sum(next(scores)[0] for _ in range(count)) for count in counts]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _loglikelihood_tokens(
        self, requests: list[Scored], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        # Equal contexts one after the other, so that they are read once.
        order = sorted(range(len(requests)), key=lambda i: requests[i][1])
        answers = self.llm.score(self._placed(requests[i]) for i in order)
        found: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        bar = tqdm(order, desc="Running loglikelihood requests", disable=disable_tqdm)
        for i, tokens in zip(bar, answers, strict=True):
            likeliest = all(token.top[0][0] == token.token_id for token in tokens)
            found[i] = (sum(token.logprob for token in tokens), likeliest)
            if (texts := requests[i][0]) is not None:
                self.cache_hook.add_partial("loglikelihood", texts, found[i])
        return found

    def _placed(self, request: Scored) -> tuple[list[int], int]:
        _, context, continuation = request
        ids = [*context, *continuation]
        cut = max(0, len(ids) - self.max_length)
        if cut:
            logger.warning("%d tokens are left out at the beginning of a request", cut)
        # Of a text that fills the window alone the first token follows nothing.
        return ids[cut:], max(1, len(context) - cut)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts that continue the contexts, up to the first of their stop texts."""
        asked = [self._asked(*request.args) for request in requests]
        order = sorted(range(len(asked)), key=lambda i: asked[i][0])
        completions: Iterator[Completion] = self.llm.complete(
            (asked[i][0], asked[i][1]) for i in order
        )
        found = [""] * len(asked)
        bar = tqdm(order, desc="Running generate_until requests", disable=disable_tqdm)
        for i, completion in zip(bar, completions, strict=True):
            found[i] = postprocess_generated_text(completion.text, asked[i][2], None)
            self.cache_hook.add_partial("generate_until", requests[i].args, found[i])
        return found

    def _asked(
        self, context: str, options: dict[str, Any]
    ) -> tuple[list[int], SamplingParams, list[str]]:
        wanted = dict(normalize_gen_kwargs(dict(options), self._max_gen_toks))
        eos = self.llm.tokenizer.token_text(self.eot_token_id)
        stop = handle_stop_sequences(wanted.pop("until", None), eos=eos)
        most = int(wanted.pop("max_gen_toks"))
        sampled = bool(wanted.pop("do_sample", False))
        sampling = {
            name: wanted[name]
            for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
            if wanted.get(name) is not None
        }
        if not sampled:
            sampling["temperature"] = 0.0
        if most >= self.max_length:
            raise ConfigError(
                f"the task asks for {most} tokens, and the window has {self.max_length}; "
                "give a smaller max_gen_toks with --gen_kwargs"
            )
        ids = self.tok_encode(context)[-(self.max_length - most) :]
        # The texts are cut by the harness's own rule; the engine only has to end there.
        ends = tuple(text for text in stop if text and text != eos)[:16]
        return ids, SamplingParams(max_tokens=most, stop=ends, **sampling), stop


def main(arguments: Sequence[str] | None = None) -> None:
    """The harness's command line with this model in it; ``register`` is ours."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["register"]:
        print(f"wrote {harness_plugin.register()}: lm_eval knows --model everlong from now on")
        return
    from lm_eval.__main__ import cli_evaluate

    if harness_plugin.NAME not in model_registry:
        model_registry.register(harness_plugin.NAME, target=EverlongLM)
    sys.argv = ["lm_eval", *given]
    cli_evaluate()


if __name__ == "__main__":
    main()
