"""A model's name to the engine that plays it: a folder, a hub name, a ``.gguf`` file, or a server's address.

What needs torch is imported only for a model on this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uma_lib.engines.protocol import Engine
from uma_lib.files import RunError, is_address


def open_engine(
    model: str,
    *,
    dtype: str = "float32",
    device: str = "",
    slots: int = 64,
    thinking: bool | None = None,
    server: dict[str, Any] | None = None,
) -> Engine:
    """The engine of a model.

    model: a folder, a hub name, a ``.gguf`` file, or ``http://host:8000/v1#name``, the address of a server with the
    name of its model. dtype, device ("": the GPU if there is one), slots: of a model on this machine. thinking: on or
    off where the model's template can, None: as it is. server: further arguments of `remote.Remote`.

    Raises `RunError` of one line for a model that cannot be loaded, and for an address without a name.
    """
    if is_address(model):
        from uma_lib.engines.remote import Remote

        address, _, name = model.partition("#")
        if not name:
            raise RunError(f"{address} is a server: name its model, as in {address}#qwen3-4b")
        return Remote(address, name, thinking=thinking, **server or {})
    if not model:
        raise RunError("no model is named: give a folder, a hub name, or a server such as http://host:8000/v1#name")
    from uma_lib.engines.policy import Policy

    path = Path(model)
    gguf = path.name if path.suffix == ".gguf" else None
    return Policy.load(
        path.parent if gguf else model, gguf_file=gguf, dtype=dtype, device=device or None, slots=slots,
        template=None if thinking is None else {"enable_thinking": thinking},
    )  # fmt: skip
