"""Rates from counts, races between workers, and which peer stands for which."""

import sys
from typing import Any

import pytest

from benchmarks.contender import ContenderError
from benchmarks.peers import everlong, llamacpp, openvino, transformers
from benchmarks.prompts import Prompts
from benchmarks.speed import (
    DECODE1,
    DECODE16,
    MEASUREMENTS,
    PREFILL,
    Entrant,
    Race,
    Sample,
    field_of,
    measure,
    race,
    tune,
)
from benchmarks.worker import Run
from tests.benchmarks import counting_worker

PROMPTS = Prompts(0, lambda text: [*text.encode()])


def entrant(name: str, peer: str = "", path: str = "model", **options: Any) -> Entrant:
    return Entrant(
        name,
        peer or name,
        counting_worker.__name__,
        sys.executable,
        path,
        {"usual": options, "fast": {"rate": 1000.0}, "broken": {"lost": 1}},
        dict.fromkeys((m.name for m in MEASUREMENTS), "usual"),
    )


def quiet(*messages: str) -> None:
    pass


def test_prefill_is_the_prompt_over_the_time_to_the_first_token() -> None:
    assert PREFILL.rate(Run(0.5, 0.0, [1000], [1])) == 2000


def test_one_stream_counts_from_the_first_token() -> None:
    assert DECODE1.rate(Run(9.0, 0.32, [32], [65])) == 200


def test_many_streams_count_everything_in_the_whole_time() -> None:
    assert DECODE16.rate(Run(2.0, None, [32] * 16, [64] * 16)) == 512


@pytest.mark.parametrize(
    ("run", "complaint"),
    [
        (Run(1.0, 0.0, [999], [1]), "prompts of"),
        (Run(1.0, 0.0, [1000], [2]), "generated"),
        (Run(1.0, 0.0, [1000], [1], cached_tokens=64), "64 prompt tokens came from a cache"),
    ],
)
def test_other_counts_than_asked_for_are_refused(run: Run, complaint: str) -> None:
    with pytest.raises(ContenderError, match=complaint):
        PREFILL.rate(run)


def test_one_stream_that_ends_early_is_refused() -> None:
    with pytest.raises(ContenderError, match=r"generated \[64, 63"):
        DECODE16.rate(Run(2.0, None, [32] * 16, [64, 63, *[64] * 14]))


def test_a_race_measures_everyone_in_every_round_and_goes_on_without_who_fails() -> None:
    runners = [
        entrant("ours", rate=400.0),
        entrant("theirs", rate=100.0),
        entrant("absent", path="missing"),
        entrant("cheat", lost=1),
    ]
    with field_of(1, quiet) as field:
        result = race(runners, field, PROMPTS, 5, quiet)
    for measurement in MEASUREMENTS:
        assert result.rates(measurement, "ours") == pytest.approx([400.0] * 5)
        assert result.rates(measurement, "cheat") == []
        ratio = result.ratio(measurement, "ours", "theirs")
        assert ratio.value == pytest.approx(4.0)
        assert "median of 5 rounds, 4 to 4" in ratio.detail
        assert "theirs 100 (100 to 100) tokens/s (usual)" in ratio.detail
        missing = result.ratio(measurement, "ours", "absent")
        assert missing.value is None
        assert "there is no missing" in missing.detail
        cheat = result.ratio(measurement, "ours", "cheat")
        assert cheat.value is None
        assert "generated" in cheat.detail
    unknown = result.ratio(PREFILL, "ours", "nobody")
    assert (unknown.value, unknown.detail) == (None, "nobody does not take part in this run")
    assert "ours is 4.00 x as fast" in result.table("ours")
    assert "pytest" in result.versions


def test_without_our_own_figure_there_is_no_ratio() -> None:
    result = Race((entrant("ours"), entrant("theirs")))
    result.samples = {"prefill": {"ours": [Sample(1.0, None)], "theirs": [Sample(1.0, None)]}}
    result.failures = {("prefill", "ours"): "crashed"}
    found = result.ratio(PREFILL, "ours", "theirs")
    assert (found.value, found.detail) == (None, "ours: crashed")


def test_the_faster_of_two_entrants_stands_for_their_peer() -> None:
    result = Race((entrant("ours"), entrant("plain", "peer"), entrant("export", "peer")))
    rates = {"ours": 30.0, "plain": 10.0, "export": 20.0}
    result.samples = {"prefill": {name: [Sample(rate, 0.0)] for name, rate in rates.items()}}
    found = result.ratio(PREFILL, "ours", "peer")
    assert found.value == 1.5
    assert "export 20" in found.detail
    result.failures = {("prefill", "export"): "crashed"}
    assert result.ratio(PREFILL, "ours", "peer").value == 3.0


def test_a_busy_machine_is_mentioned() -> None:
    result = Race((entrant("ours"), entrant("theirs")))
    result.samples = {"prefill": {"ours": [Sample(2.0, 0.0)], "theirs": [Sample(1.0, 0.3)]}}
    assert "was not quiet" in result.ratio(PREFILL, "ours", "theirs").detail
    result.samples["prefill"]["theirs"] = [Sample(1.0, 0.01)]
    assert "was not quiet" not in result.ratio(PREFILL, "ours", "theirs").detail


def test_tuning_keeps_what_is_fastest_and_works() -> None:
    said: list[str] = []
    best = tune(entrant("theirs", rate=10.0), 1, PROMPTS, said.append, rounds=1)
    assert best == {"prefill": "fast", "decode1": "fast", "decode16": "fast"}
    assert any("theirs (broken) is out of decode1: generated" in line for line in said)


def test_tuning_changes_nothing_where_nothing_works() -> None:
    runner = entrant("absent", path="missing")
    assert tune(runner, 1, PROMPTS, quiet, rounds=1) == runner.best


def test_a_measurement_says_what_others_took() -> None:
    with field_of(1, quiet) as field:
        worker = field.worker(entrant("ours"), "usual")
        sample = measure(worker, DECODE1, PROMPTS, "key")
    assert sample.rate == pytest.approx(100.0)
    assert sample.elsewhere is None or 0 <= sample.elsewhere <= 1


@pytest.mark.parametrize("peer", [openvino, llamacpp, transformers])
def test_every_measurement_has_a_known_best_setting(peer: Any) -> None:
    assert set(peer.BEST) == {m.name for m in MEASUREMENTS}
    assert set(peer.BEST.values()) <= set(peer.CANDIDATES)


def test_everlong_is_measured_with_the_weights_it_can_load() -> None:
    from everlong.model.assemble import WEIGHTS_OPTIONS

    assert {options["weights"] for options in everlong.CANDIDATES.values()} <= {*WEIGHTS_OPTIONS}
