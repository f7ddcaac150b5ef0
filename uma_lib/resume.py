"""What a run needs to go on where it stopped: a checkpoint that is whole, and a model that is still the same."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from uma_lib.engines.load import adapter_config, base_of, folder_of
from uma_lib.files import RunError, atomic_write_bytes, model_folder, sha256

# what the weights, the tokenizer and the prompts of a model come from; not its card
MEASURES = {"competence.json"}  # part of the card
KINDS = {".safetensors", ".bin", ".gguf", ".json", ".jinja", ".model", ".txt", ".py"}


def model_inputs(name: str) -> dict[str, str]:
    """What the model ``name`` is made of: SHA-256 by file of its folder, or the commit of a model of the hub.

    name: a folder or a name on the hub, as in `files.model_folder`. With an adapter its base counts as well.

    >>> sorted(Path(file).name for file in model_inputs("data/nano"))[:2]
    ['chat_template.jinja', 'config.json']
    """
    folder = folder_of(name)
    if model_folder(name) is None:
        found = {name: folder.name}  # a model of the hub lies in a folder that is named after its commit
    else:
        files = [file for file in sorted(folder.iterdir()) if file.suffix in KINDS and file.name not in MEASURES]
        found = {f"{name}/{file.name}": sha256(file) for file in files}
    adapter = adapter_config(folder)
    return found | (model_inputs(base_of(folder, adapter)) if adapter else {})


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, as a whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic_write_bytes(path, buffer.getvalue())


@contextmanager
def reading(checkpoint: Path) -> Iterator[None]:
    """`RunError` for whatever goes wrong in the block that reads a checkpoint."""
    try:
        yield
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(f"cannot read {checkpoint} ({reason}): delete it to start the run anew") from error
