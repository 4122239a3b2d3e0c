"""An int4 export for OpenVINO GenAI of a GGUF file that it cannot read itself.

Usage: ``python -m benchmarks.peers.openvino_export FILE.gguf FOLDER``, in an interpreter that has
``optimum-intel``, ``nncf``, ``openvino`` and ``transformers``. transformers dequantises the file
to float32; nncf rounds it to int4 with a scale and a zero point for each group of 64 inputs (the
embedding and the output projection to int8), which is the layout of optimum-intel's defaults with
smaller groups, as 128 were no faster.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

MODULES = ("optimum.intel", "nncf", "transformers")
"""What the interpreter must have."""


def main(file: Path, folder: Path) -> None:
    """Write the export; ``folder`` appears only when it is complete."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        dense, exported = Path(scratch, "dense"), Path(scratch, "exported")
        for kind in (AutoTokenizer, AutoModelForCausalLM):
            kind.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(dense)
        export = "optimum.commands.optimum_cli export openvino"
        how = "--task text-generation-with-past --weight-format int4 --group-size 64 --ratio 1.0"
        subprocess.run(
            [sys.executable, "-m", *export.split(), *how.split(), "--model", dense, exported],
            check=True,
        )
        exported.rename(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
