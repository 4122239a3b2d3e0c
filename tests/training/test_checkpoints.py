from __future__ import annotations

from pathlib import Path

import pytest
import torch

from everlong.training import checkpoints
from everlong.training.checkpoints import Checkpoints, path_of, read_state, read_tensors, verify


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
    kept.save(3, given, {"validation_loss": 1.5})
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
