"""No kill of a writing process loses what it called durable."""

from __future__ import annotations

from pathlib import Path

from tests.crash.kills import kills


def test_no_durable_block_is_lost_to_a_kill(place: Path) -> None:
    outcome = kills(5, place / "blocks", seed=0)
    assert not outcome.problems, "\n".join(outcome.problems)
    assert outcome.survived == 5
