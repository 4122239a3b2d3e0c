from __future__ import annotations

import time
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
import torch

from everlong.errors import CheckpointError
from everlong.training import checkpoints
from everlong.training.checkpoints import (
    Checkpoints,
    path_of,
    read_state,
    read_tensors,
    steps_in,
    verify,
)


def test_tensors_lie_in_files_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_FILE_BYTES", 1000)
    given = {
        "small": torch.arange(5),
        "larger than a file": torch.randn(30, 20),
        "half": torch.randn(100).bfloat16(),
        "number": torch.tensor(2.5),
        "rest": torch.randn(240),
    }
    kept = Checkpoints(tmp_path)
    kept.save(3, given.items(), {"validation_loss": 1.5})
    kept.close()
    path = path_of(tmp_path, 3)
    verify(path)
    assert len([*path.glob("*.safetensors")]) == 4
    found = read_tensors(path)
    assert found.keys() == given.keys()
    for name, value in given.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype
    assert read_state(path) == {"validation_loss": 1.5}


def test_what_could_not_be_written_is_tried_again_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, full = Checkpoints._write_as, [True]

    def write(self: Checkpoints, *given: Any) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        whole(self, *given)

    monkeypatch.setattr(Checkpoints, "_write_as", write)
    told: list[str] = []
    kept = Checkpoints(tmp_path, say=told.append)
    assert not kept.failed
    kept.save(1, [("a", torch.ones(2))], {})
    assert kept._pending is not None
    wait([kept._pending])
    assert kept.failed
    with pytest.raises(CheckpointError, match="step 2 could not be written"):
        kept.save(2, [("a", torch.ones(2))], {})
    kept.save(3, [("a", torch.ones(2))], {})
    assert kept._pending is not None
    wait([kept._pending])
    assert kept.failed
    full[0] = False
    kept.save(4, [("a", torch.ones(2))], {})
    kept.close()
    assert not kept.failed
    assert steps_in(tmp_path) == [4]
    (line,) = told
    assert "step 3 could not be written" in line
    assert line.endswith("that of step 4 is written")


def test_an_error_of_the_writer_outlives_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, pressed = Checkpoints(tmp_path), [True]

    def write(*given: Any) -> None:
        while pressed[0]:
            time.sleep(0.01)
        raise CheckpointError("a full disk")

    monkeypatch.setattr(kept, "_write", write)
    kept.save(1, [], {})
    assert kept._pending is not None
    result = kept._pending.result
    monkeypatch.setattr(kept._pending, "result", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.wait()
    monkeypatch.setattr(kept._pending, "result", result)
    pressed[0] = False
    with pytest.raises(CheckpointError, match="a full disk"):
        kept.close()


def _interrupted() -> None:
    raise KeyboardInterrupt
