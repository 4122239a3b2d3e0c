import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from everlong.checkpoint import hub
from everlong.checkpoint.catalog import pull, resolve
from everlong.errors import CheckpointError, ConfigError, DownloadError
from tests.checkpoint.hub_server import COMMIT, Behaviour, HubServer

WEIGHTS = bytes(range(256)) * 20
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}" * 1000,
    "model.safetensors": WEIGHTS,
    "README.md": b"readme",
    "pytorch_model.bin": b"pickle",
    "modeling_custom.py": b"import os",
    "model-q4.gguf": b"GGUF" * 500,
    "sub/deep-q8.gguf": b"GGUF" * 600,
    "sub/config.json": b"{}",
    "LICENSE": b"",
}
PULLED = ["LICENSE", "config.json", "model.safetensors", "pulled.json", "tokenizer.json"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    for variable in ("HF_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(hub, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path / "home"))
    with HubServer(dict(FILES)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        yield running


@pytest.fixture
def behaviour(server: HubServer) -> Behaviour:
    return server.behaviour


def _names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _left_overs(tmp_path: Path) -> list[Path]:
    return list(tmp_path.rglob("*.part"))


def test_a_folder_is_pulled_once(behaviour: Behaviour, tmp_path: Path):
    seen = []
    folder = pull("hf:org/model", lambda *report: seen.append(report))
    assert folder == tmp_path / "home/models/hf/org/model@main"
    assert _names(folder) == PULLED
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert COMMIT in (folder / "pulled.json").read_text()
    assert ("model.safetensors", len(WEIGHTS), len(WEIGHTS)) in seen
    count = len(behaviour.requests)
    assert pull("hf:org/model") == resolve("hf:org/model") == folder
    assert len(behaviour.requests) == count, "what is here is not asked for again"


def test_one_gguf_file(behaviour: Behaviour):
    path = pull("hf:org/model@v1:sub/deep-q8.gguf")
    assert path.read_bytes() == FILES["sub/deep-q8.gguf"]
    assert path.parts[-3:] == ("model@v1", "sub", "deep-q8.gguf")
    assert resolve("hf:org/model@v1:sub/deep-q8.gguf") == path
    assert len(behaviour.downloads()) == 1
    with pytest.raises(CheckpointError, match=r"everlong pull hf:org/model@v1$"):
        resolve("hf:org/model@v1")


def test_lists_of_several_pages(behaviour: Behaviour):
    behaviour.page_size = 2
    assert _names(pull("hf:org/model")) == PULLED


def test_a_cut_connection_is_continued(behaviour: Behaviour, tmp_path: Path):
    behaviour.files = {"config.json": b"{}", "model.safetensors": WEIGHTS}
    behaviour.cut_after = [2, 1000, 0, 1500]
    folder = pull("hf:org/model")
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [headers.get("Range") for _, headers in behaviour.downloads()]
    assert ranges == [None, None, "bytes=1000-", "bytes=1000-", "bytes=2500-"]
    assert not _left_overs(tmp_path)


def test_a_server_without_ranges_starts_again(behaviour: Behaviour):
    behaviour.files = {"model.safetensors": WEIGHTS}
    behaviour.ignores_ranges = True
    behaviour.cut_after = [1000, 2000]
    assert (pull("hf:org/model") / "model.safetensors").read_bytes() == WEIGHTS


def test_the_next_pull_continues_the_last(behaviour: Behaviour, tmp_path: Path):
    behaviour.cut_after = [10_000, 0, 10_000, 1000, *[0] * 4]
    with pytest.raises(DownloadError, match=r"tried 5 times.*run the command again"):
        pull("hf:org/model")
    [part] = _left_overs(tmp_path)
    assert part.stat().st_size == 1000
    with pytest.raises(CheckpointError, match="not on this machine yet"):
        resolve("hf:org/model")
    behaviour.requests.clear()
    assert _names(pull("hf:org/model")) == PULLED
    assert behaviour.downloads()[0][1]["Range"] == "bytes=1000-"
    assert not _left_overs(tmp_path)


def test_an_interrupted_pull_keeps_what_has_arrived(behaviour: Behaviour, tmp_path: Path):
    behaviour.files = {"model.safetensors": WEIGHTS}

    def interrupt(name: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull("hf:org/model", interrupt)
    assert len(_left_overs(tmp_path)) == 1
    assert (pull("hf:org/model") / "model.safetensors").read_bytes() == WEIGHTS


def test_parts_of_other_contents_are_not_continued(behaviour: Behaviour, tmp_path: Path):
    behaviour.files = {"model.safetensors": WEIGHTS}
    behaviour.cut_after = [1000, *[0] * 4]
    with pytest.raises(DownloadError):
        pull("hf:org/model")
    behaviour.files["model.safetensors"] = other = WEIGHTS[::-1]
    behaviour.commit = COMMIT[::-1]
    assert (pull("hf:org/model") / "model.safetensors").read_bytes() == other
    assert not _left_overs(tmp_path)


def test_files_of_another_commit_are_replaced(behaviour: Behaviour):
    folder = pull("hf:org/model")
    (folder / "pulled.json").unlink()  # as if the first pull had not come to its end
    behaviour.files["config.json"] = b'{"model_type": "qwen2"}'
    behaviour.requests.clear()
    pull("hf:org/model")
    assert (folder / "config.json").read_bytes() == behaviour.files["config.json"]
    assert [path.rpartition("/")[2] for path, _ in behaviour.downloads()] == ["config.json"]


def test_wrong_bytes_are_fetched_once_more(behaviour: Behaviour):
    behaviour.corrupt = 1
    assert (pull("hf:org/model") / "config.json").read_bytes() == FILES["config.json"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_wrong_bytes_are_never_kept(behaviour: Behaviour, tmp_path: Path, name: str):
    behaviour.files = {"model.safetensors": WEIGHTS, name: FILES[name]}
    behaviour.corrupt = 10
    with pytest.raises(DownloadError, match="does not have the checksum"):
        pull("hf:org/model")
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not _left_overs(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"announced": 1}, "announces"),
        ({"announced": -1}, "announces"),
        ({"extra": b"more"}, "sends more than"),
        ({"listed_size": {"model.safetensors": 4000}}, "announces 5,120 bytes"),
        ({"listed_size": {"model.safetensors": -1}}, "malformed entry"),
        ({"listed_size": {"model.safetensors": 1 << 60}}, "malformed entry"),
        ({"statuses": [(500, {})] * 5}, "answers 500.*tried 5 times"),
        ({"statuses": [(404, {})]}, "no such model"),
        ({"statuses": [(403, {})]}, "HF_TOKEN"),
        ({"statuses": [(418, {})]}, "answers 418"),
        ({"token": "secret"}, "HF_TOKEN"),
        ({"commit": "../../etc"}, "gives no commit"),
        ({"raw_list": b"<html>"}, "does not send JSON"),
        ({"raw_list": b"{}"}, "malformed"),
        ({"raw_list": b"[" * 100_000}, "does not send JSON"),
        ({"raw_list": b"[7]"}, "no safetensors weights"),
        ({"raw_list": b'[{"type": "file", "path": 7}]'}, "malformed entry"),
        ({"raw_list": b'[{"type": "file", "path": "x", "size": 1, "oid": "zz"}]'}, "malformed"),
        ({"raw_list": b" " * ((16 << 20) + 1)}, "sends over"),
        ({"page_size": 1, "next_page": "https://elsewhere.invalid/x"}, "another server"),
        ({"redirect": "http://elsewhere.invalid"}, "not https"),
        ({"redirect": "file:///etc/passwd"}, "not allowed"),
    ],
)
def test_what_a_hub_can_do_wrong(
    behaviour: Behaviour, tmp_path: Path, changes: dict[str, object], message: str
):
    for name, value in changes.items():
        setattr(behaviour, name, value)
    with pytest.raises(DownloadError, match=message):
        pull("hf:org/model")
    assert not list(tmp_path.rglob("model.safetensors"))


def test_a_continuation_at_the_wrong_place_is_refused(behaviour: Behaviour):
    behaviour.files = {"model.safetensors": WEIGHTS}
    behaviour.cut_after = [1000]
    behaviour.wrong_range = True
    with pytest.raises(DownloadError, match="does not continue at byte 1,000"):
        pull("hf:org/model")


def test_a_part_that_cannot_be_continued_is_fetched_anew(behaviour: Behaviour):
    behaviour.files = {"model.safetensors": WEIGHTS}
    behaviour.cut_after = [1000]
    behaviour.file_statuses = [200, 416]
    assert (pull("hf:org/model") / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [headers.get("Range") for _, headers in behaviour.downloads()]
    assert ranges == [None, "bytes=1000-", None]


def test_busy_hubs_are_asked_again(behaviour: Behaviour):
    behaviour.statuses = [(429, {"Retry-After": "0"}), (503, {}), (429, {"Retry-After": "soon"})]
    assert _names(pull("hf:org/model")) == PULLED


def test_the_wait_is_the_one_asked_for(behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    monkeypatch.setattr(hub.time, "sleep", waits.append)
    behaviour.statuses = [(429, {"Retry-After": "7"}), (503, {"Retry-After": "99999"}), (500, {})]
    pull("hf:org/model")
    assert waits[:3] == [7, 60, 0.004]


def test_names_from_the_hub_never_leave_the_folder(behaviour: Behaviour, tmp_path: Path):
    for name in (
        "../../model.safetensors",
        "/tmp/model.safetensors",
        "..\\model.safetensors",
        "sub/../../config.json",
        "model-00001-of-00002.safetensors/../../x.safetensors",
        "config.json\n",
        "config.json/",
    ):
        behaviour.files[name] = b"evil" * 500
    folder = pull("hf:org/model")
    assert _names(folder) == PULLED
    everything = {p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"}
    assert {folder / name for name in PULLED} == everything
    with pytest.raises(CheckpointError, match="is not a hub name"):
        pull("hf:org/model:../../x.gguf")


def test_shards_are_left_out_where_one_file_has_all(behaviour: Behaviour):
    shard = "model-00001-of-00002.safetensors"
    behaviour.files |= {shard: WEIGHTS, "model.safetensors.index.json": b"{}"}
    assert shard not in _names(pull("hf:org/model"))
    del behaviour.files["model.safetensors"]
    assert {shard, "model.safetensors.index.json"} <= set(_names(pull("hf:org/model@sharded")))


def test_without_safetensors_the_gguf_files_are_named(behaviour: Behaviour):
    del behaviour.files["model.safetensors"]
    with pytest.raises(DownloadError, match=r"no safetensors.*model-q4\.gguf, sub/deep-q8\.gguf"):
        pull("hf:org/model")
    with pytest.raises(DownloadError, match=r"has no file other\.gguf; it has.*model-q4\.gguf"):
        pull("hf:org/model:other.gguf")


def test_the_token_goes_to_the_hub_only(behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    behaviour.token = "secret"
    with HubServer(dict(FILES)) as other:
        behaviour.redirect = other.address
        assert _names(pull("hf:org/model")) == PULLED
        assert len(other.behaviour.downloads()) == 3
        assert not any("Authorization" in headers for _, headers in other.behaviour.requests)


def test_the_token_follows_a_redirect_on_the_same_hub(
    behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "secret")
    behaviour.token = "secret"
    behaviour.moved = True
    assert hub.Hub().commit("org/old", "main") == COMMIT


@pytest.mark.parametrize(
    "endpoint", ["http://hub.invalid", "ftp://hub.invalid", "hub.invalid", "https://", "file:///x"]
)
def test_unsafe_addresses_are_refused(endpoint: str):
    with pytest.raises(ConfigError, match="must start with https"):
        hub.Hub(endpoint)


def test_a_hub_that_cannot_be_reached(behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="cannot be reached"):
        pull("hf:org/model")


def test_two_pulls_at_once_fetch_everything_once(behaviour: Behaviour):
    behaviour.slow = 0.02
    results: list[Path] = []
    threads = [
        threading.Thread(target=lambda: results.append(pull("hf:org/model"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert len(set(results)) == 1
    assert len(behaviour.downloads()) == 3


def test_too_little_space_is_noticed_first(behaviour: Behaviour):
    behaviour.listed_size["model.safetensors"] = 1 << 41
    with pytest.raises(DownloadError, match=r"2199\.02 GB are needed .* EVERLONG_HOME"):
        pull("hf:org/model")
    assert not behaviour.downloads()
