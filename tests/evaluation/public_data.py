"""The public data sets, where they are at hand."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"


def public_data() -> Path:
    """Their folder; skips the test where there is none."""
    if not FOLDER.exists():
        pytest.skip("the public data is not here")
    return FOLDER
