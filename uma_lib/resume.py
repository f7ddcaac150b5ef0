"""What a run needs to go on where it stopped: a checkpoint that is whole, and a model that is still the same."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from uma_lib.runs import RunError, atomic_write_bytes, model_folder, read_json, sha256

# what the weights, the tokenizer and the prompts of a model come from; not its card
MEASURES = {"competence.json"}  # part of the card
KINDS = {".safetensors", ".bin", ".gguf", ".json", ".jinja", ".model", ".txt", ".py"}


def model_inputs(name: str) -> dict[str, str]:
    """What the model ``name`` is made of: SHA-256 by file of its folder, or the commit of a model of the hub.

    name: a folder or a name on the hub, as in `runs.model_folder`. With an
    adapter its base counts as well.

    >>> sorted(Path(file).name for file in model_inputs("data/nano"))[:2]
    ['chat_template.jinja', 'config.json']
    """
    folder = model_folder(name)
    if folder is None:
        return _commit(name)
    files = [file for file in sorted(folder.iterdir()) if file.suffix in KINDS and file.name not in MEASURES]
    found = {f"{name}/{file.name}": sha256(file) for file in files}
    adapter = folder / "adapter_config.json"
    return found | (_base_of(adapter, name) if adapter.exists() else {})


def _commit(name: str) -> dict[str, str]:
    try:  # a file of the hub lies in a folder that is named after its commit
        try:
            return {name: Path(hf_hub_download(name, "config.json")).parent.name}
        except EntryNotFoundError:
            adapter = Path(hf_hub_download(name, "adapter_config.json"))
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(f"cannot load the model {name}: {reason}") from error
    return {name: adapter.parent.name} | _base_of(adapter, name)


def _base_of(adapter: Path, name: str) -> dict[str, str]:
    try:
        base = read_json(adapter)["base_model_name_or_path"]
    except (KeyError, TypeError) as error:
        raise RunError(f"{adapter}: no field base_model_name_or_path; restore the file") from error
    return model_inputs(base) if base != name else {}


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
