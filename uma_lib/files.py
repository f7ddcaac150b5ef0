"""Files that are there as a whole or not at all, and errors of one line.

Everything that a user can put right raises `RunError` with one line saying what to change; entry points print that line
and nothing else. This module knows nothing about models: it imports no torch.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from uma_lib.paths import REPO


class RunError(Exception):
    """A problem that the user can put right; the message is one line that says what to change."""


class SessionError(RunError):
    """One that concerns one session of a model alone, such as a prompt that is too long; others may go on."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise file_error(error, path, "read") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: not UTF-8 text; restore the file, or save it as UTF-8") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise RunError(f"{path}: not valid JSON (line {error.lineno}); restore or delete the file") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
        raise RunError(f"{path}: not JSON that can be read; restore or delete the file") from error


unfinished: set[Path] = set()  # files that go when this process ends: temporary ones, locks


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it at the end: the file is there as a whole or not at all.

    The folder is made if need be. A process that is killed leaves the temporary file behind; the next one that
    writes there clears it (`processes.clear_temporaries`).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.add(temporary)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # the content must be on disk before the name points to it
        os.replace(temporary, path)
    except OSError as error:
        raise file_error(error, path, "write") from error
    finally:
        _discard(temporary)  # nothing is left after success; after a failure its own error matters more


def discard_unfinished() -> None:
    """Remove what is there only while this process works, because it ends at once."""
    for temporary in list(unfinished):
        _discard(temporary)


def _discard(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink()
    unfinished.discard(temporary)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Replace the file at `path` as a whole: whatever happens, it holds the old content or the new.

    The folder is made if need be. Models and figures go through here too, serialised in memory first
    (`torch.save` into a `BytesIO`), so that a full disk shows as one clear line, not as a failure inside a
    library.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data)


def atomic_write_text(path: Path, text: str) -> None:
    """`atomic_write_bytes` for UTF-8 text."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: Path, value: Any) -> None:
    """`atomic_write_bytes` for plain values; NaN and infinity, unknown to JSON, raise `ValueError`."""
    atomic_write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def file_error(error: OSError, path: Path, action: str) -> RunError:
    """The line that tells a user why `path` could not be read or written ("read", "write")."""
    if error.errno == errno.ENOENT and action == "read":
        return RunError(f"{path}: no such file; check the path, or restore a shipped file with git checkout")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"{path}: the disk is full; free some space or choose another folder, then run again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RunError(f"{path}: no permission to {action}; change its permissions or choose another folder")
    return RunError(f"{path}: cannot {action}: {error.strerror or error}; check the path")


def model_folder(name: str | Path) -> Path | None:
    """The folder of a model; None for a name that only the hub can have ("owner/name", or a single word).

    A relative name is looked for in the current directory, then among what the project ships, so that "data/nano" is
    found wherever a command runs. Raises `RunError` for a name that means a folder which is not there: no hub is asked.

    >>> model_folder("data/nano").name, model_folder("Qwen/Qwen3-4B-Instruct-2507")
    ('nano', None)
    """
    text = str(name)
    missing = RunError(f"no model folder at {text!r}: make the base model, or give a folder or a hub name")
    try:
        path = Path(name).expanduser()
        if path.is_file():
            raise RunError(f"{text!r} is a file: give the folder of a model, or a hub name")
        found = next((folder for folder in (path, REPO / path) if text.strip() and folder.is_dir()), None)
    except (OSError, RuntimeError) as error:  # a name that is too long, or a home that nobody has
        raise missing from error
    if found is not None:
        return found.resolve()
    parts = path.parts
    around = [place / parts[0] for place in (Path(), REPO)] if len(parts) == 2 else []
    if (
        isinstance(name, Path)
        or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", text)  # what the hub takes
        or any(folder.is_dir() for folder in around)
        or parts[0] in ("data", "runs")
        or path.suffix in (".gguf", ".safetensors", ".bin", ".json", ".pt")
    ):
        raise missing
    return None


def is_address(name: str | Path) -> bool:
    """Whether a model's name is the address of a server."""
    return str(name).startswith(("http://", "https://"))


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise file_error(error, path, "read") from error
