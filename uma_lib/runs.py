"""Runs to be trusted: checked parameters, atomic files, a log that survives a kill, a manifest written last.

A run is one folder: `params.json` and `inputs.json` (written at the start), `metrics.csv`, `results.json`, and
`manifest.json`, whose presence means that the run is complete. Everything that a user can put right raises `RunError`
with one line saying what to change; entry points print that line and nothing else.

This module knows nothing about models: it imports no torch.
"""

import csv
import dataclasses
import difflib
import errno
import hashlib
import io
import json
import math
import os
import platform
import re
import subprocess
import types
import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from uma_lib.paths import REPO, shipped

Scalar = bool | int | float | str | None
T = TypeVar("T")


class RunError(Exception):
    """A problem that the user can put right; the message is one line that says what to change."""


# --- parameters -----------------------------------------------------------------------------------


def check(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build the flat dataclass `cls` from plain values, refusing unknown names and wrong types.

    Field types may be bool, int, float, str, `Literal[...]`, `list[X]`, `tuple[X, ...]`, and any of these
    `| None`. An int is accepted for a float, a list for a tuple; nothing else is converted. A `ValueError`
    from the class's own `__post_init__` (a value out of range) becomes a `RunError` as well.

    >>> @dataclasses.dataclass
    ... class Config:
    ...     steps: int = 10
    ...     lr: float = 1e-3
    >>> check(Config, {"steps": 20, "lr": 1})
    Config(steps=20, lr=1.0)
    >>> check(Config, {"step": 20})
    Traceback (most recent call last):
    uma_lib.runs.RunError: unknown parameter 'step'; did you mean 'steps'?
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in values:
        if name not in fields:
            raise RunError(unknown("parameter", name, fields))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise RunError(f"parameter {name!r} is missing; give it a value of type {type_name(hints[name])}")
    try:
        return cls(**{name: check_value(name, value, hints[name]) for name, value in values.items()})
    except ValueError as error:
        raise RunError(str(error)) from error


def check_value(name: str, value: Any, expected: Any) -> Any:
    """Return `value` as the type `expected` (see `check`), or raise a `RunError` that says how to pass it.

    The advice comes from what papermill and YAML really do: `-p FLAG false` and `lr: 1e-6` arrive as text,
    `-p N 1e5` as a float, `-p SEEDS '[1, 2]'` as text.
    """
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        kinds = [kind for kind in arguments if kind is not type(None)]
        if len(kinds) != 1:
            raise TypeError(f"parameter {name!r}: a union of more than one type and None is not supported")
        return check_value(name, value, kinds[0])
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            choices = ", ".join(repr(choice) for choice in arguments)
            raise RunError(f"parameter {name!r} is {_brief(value)}; pass one of {choices}")
        return value
    kind = origin or expected
    if kind in (list, tuple):
        if not isinstance(value, list | tuple):
            raise RunError(_wrong(name, value, expected, f"write [1, 2], with papermill -y '{name}: [1, 2]'"))
        if not arguments:
            return kind(value)
        return kind(check_value(f"{name}[{i}]", item, arguments[0]) for i, item in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > LARGEST:
            return math.inf if value > 0 else -math.inf  # which no range allows
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        raise RunError(_wrong(name, value, expected, f"write {int(value)}, without point or exponent"))
    if kind is float and isinstance(value, str):
        raise RunError(_wrong(name, value, expected, "write 1.0e-6, as YAML reads 1e-6 as text"))
    if kind is bool and not isinstance(value, bool):
        raise RunError(_wrong(name, value, expected, "write True or False (papermill -p: not false)"))
    if kind is str and not isinstance(value, str):
        text = _brief(value)
        raise RunError(_wrong(name, value, expected, f'write "{text}", with papermill -r {name} {text}'))
    if type(value) is not kind:
        raise RunError(_wrong(name, value, expected, f"pass a value of type {type_name(expected)}"))
    return value


LARGEST = 2**53  # integers up to here are exact as floats


def _brief(value: Any, limit: int = 80) -> str:
    """The value as Python writes it, cut to one short line."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def bounded(config: Any, **bounds: tuple[float, float]) -> None:
    """Refuse a number (or one of a tuple) of a configuration outside ``name=(least, most)``, both included.

    NaN, infinity and numbers too large to count with are outside of every range. Raises ValueError, which `check` turns
    into a `RunError`.

    >>> @dataclasses.dataclass
    ... class Config:
    ...     lr: float = float("nan")
    >>> bounded(Config(), lr=(0, 1))
    Traceback (most recent call last):
    ValueError: lr is nan; it must be between 0 and 1
    """
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        for one in value if isinstance(value, tuple) else (value,):
            if not (least <= one <= min(most, LARGEST)):
                small = most == math.inf and not one > LARGEST
                wanted = f"at least {least:g}" if small else f"between {least:g} and {min(most, LARGEST):g}"
                raise ValueError(f"{name} is {_brief(one)}; it must be {wanted}")


def type_name(kind: Any) -> str:
    """`int` for int, `list[int]` for list[int]."""
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """One line that refuses `name` and suggests the nearest known name, or lists them all."""
    known = list(known)
    lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f"did you mean {lower[near[0]]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    return f"unknown {what} {name!r}; {hint}"


def _wrong(name: str, value: Any, expected: Any, advice: str) -> str:
    return f"parameter {name!r} is {_brief(value)} ({type(value).__name__}), not {type_name(expected)}; {advice}"


def notebook_parameters(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values in a notebook's `globals()`, for the cell right after its `parameters` cell.

    papermill only logs a parameter that the notebook does not declare, and sets it all the same. So
    whatever plain value stands in the namespace goes through `check`, which refuses a name that the class
    does not have:

    `config = check(Config, notebook_parameters(globals()))`
    """
    plain = bool | int | float | str | list | tuple | dict | None
    of_ipython = {"In", "Out"}
    return {
        name: value
        for name, value in namespace.items()
        if isinstance(value, plain) and not name.startswith("_") and name not in of_ipython
    }


def load_parameters(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping of names to values; an empty file is an empty mapping.

    Shipped parameter files (`notebooks/params`) are found from any directory.
    """
    values = load_yaml(read_text(shipped(path)), str(path))
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise RunError(f"{path}: expected lines of the form 'name: value'")
    return values


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but a key that stands twice in a mapping is refused, and so are references.

    References (`*name`) let a short text stand for a value of any size.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            said = f"write out what *{self.peek_event().anchor} stands for"
            raise yaml.composer.ComposerError(None, None, said, self.peek_event().start_mark)
        return super().compose_node(parent, index)


def load_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; `RunError` that begins with ``where`` for one that cannot be read.

    >>> load_yaml("[1, 2]", "--set lengths")
    [1, 2]
    """
    try:
        return yaml.load(text, _Loader)  # a safe loader: it builds plain values only
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        # PyYAML lets other errors through, too: impossible dates, unhashable keys, deep nesting
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RunError(f"{where}: not valid YAML: {reason}") from None


# --- files ----------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """The text of a UTF-8 file."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise file_error(error, path, "read") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: not UTF-8 text; restore the file") from error


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


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise file_error(error, path, "read") from error


# --- metrics --------------------------------------------------------------------------------------


class MetricsLog:
    """A CSV file of metrics with a `step` column, on disk after every row.

    `MetricsLog(path)` starts an empty log. `MetricsLog(path, resume_step=n)` continues one: rows beyond
    step n are dropped, since they will be computed again, and so is a last line that a kill left
    half-written. ``steps`` names the steps up to n whose rows must be there, all of numbers. A column that
    first appears in a later row is added to the header; rows without it stay empty there.

    `RunError` names the file, and the line and column where one is damaged.
    """

    def __init__(self, path: Path, resume_step: int | None = None, steps: Iterable[int] | None = None) -> None:
        self.path = Path(path)
        self.columns: list[str] = []
        rows: list[dict[str, str]] = []
        if resume_step is not None and self.path.exists():
            rows = [row for row in self.rows() if int(row["step"]) <= resume_step]
        self.columns = list(rows[0]) if rows else []
        wanted, held = list(steps or []), [int(row["step"]) for row in rows]
        if wanted and held:
            self.numbers()  # before anything is changed
        if missing := sorted(set(wanted) - set(held)):
            where = f"has no row of step {missing[0]}" if self.path.exists() else "is not there"
            raise RunError(
                f"{self.path} {where}, but the run is at step {resume_step}; restore the file, or delete the folder "
                "of the run to start anew"
            )
        self._rewrite(rows)

    def rows(self) -> list[dict[str, str]]:
        """The complete rows, as text; an empty field means that the row had no such metric."""
        complete, newline, _half_written = read_text(self.path).rpartition("\n")
        try:
            rows = list(csv.DictReader(io.StringIO(complete + newline)))
        except csv.Error as error:
            raise RunError(f"{self.path}: not a table ({error}); restore the file") from error
        last = -1
        for number, row in enumerate(rows, start=2):
            step = row.get("step") or ""
            if None in row or None in row.values() or not re.fullmatch("[0-9]{1,15}", step):
                raise RunError(f"{self.path}, line {number}: not a row of metrics; restore the file")
            if int(step) <= last:
                raise RunError(f"{self.path}, line {number}: step {step} stands after step {last}; restore the file")
            last = int(step)
        return rows

    def numbers(self) -> list[dict[str, float | None]]:
        """The complete rows as numbers; None where the row had no such metric."""

        def number(line: int, column: str, text: str) -> float | None:
            try:
                value = float(text) if text else None
            except ValueError:
                value = math.nan
            if value is not None and not math.isfinite(value):
                raise RunError(f"{self.path}, line {line}, column {column}: {text!r} is no number; restore the file")
            return value

        return [
            {column: number(line, column, text) for column, text in row.items()}
            for line, row in enumerate(self.rows(), start=2)
        ]

    def write(self, row: Mapping[str, Scalar]) -> None:
        """Append one row; it must hold an int `step`. None is written as an empty field."""
        if type(row.get("step")) is not int or row["step"] < 0:
            raise ValueError("a row of metrics needs a non-negative int 'step'")
        if any(isinstance(value, str) and len(value.splitlines()) > 1 for value in row.values()):
            raise ValueError("a metric is one line")  # `rows` tells complete lines by their line end
        new = [column for column in row if column not in self.columns]
        if new:
            rows = self.rows() if self.columns else []
            self.columns += new
            self._rewrite([*rows, row])
        else:
            self._append(self._line([row.get(column) for column in self.columns]))

    def _append(self, line: str) -> None:
        try:
            size = self.path.stat().st_size
            with open(self.path, "ab", buffering=0) as file:
                try:
                    file.write(line.encode("utf-8"))
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(size)  # a disk that fills up within the line must not spoil the file
                    raise
        except OSError as error:
            raise file_error(error, self.path, "write") from error

    def _rewrite(self, rows: Iterable[Mapping[str, Scalar]]) -> None:
        lines = [self._line([row.get(column) for column in self.columns]) for row in rows]
        atomic_write_text(self.path, "".join([self._line(self.columns), *lines]) if self.columns else "")

    @staticmethod
    def _line(values: list[Scalar]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        return text.getvalue()


# --- run folders ----------------------------------------------------------------------------------


class Run:
    """The folder of one run, which may be interrupted and continued.

    >>> run = Run(folder)                              # doctest: +SKIP
    >>> run.start({"steps": 10, "seed": 1})            # doctest: +SKIP
    >>> if not run.complete:                           # doctest: +SKIP
    ...     run.finish({"accuracy": 0.5}, device="cpu", seed=1, inputs=[BASE / "model.safetensors"])
    >>> run.results()                                  # doctest: +SKIP
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.params_path = self.folder / "params.json"
        self.inputs_path = self.folder / "inputs.json"
        self.metrics_path = self.folder / "metrics.csv"
        self.results_path = self.folder / "results.json"
        self.manifest_path = self.folder / "manifest.json"

    @property
    def complete(self) -> bool:
        """Whether the run went to its end."""
        return self.manifest_path.exists()

    def start(self, params: Mapping[str, Any], inputs: Mapping[str, Scalar] | None = None) -> None:
        """Begin or continue the run; a folder made with other parameters or from other inputs is refused.

        inputs: what else the results depend on, such as the SHA-256 of each file of a model, by name.
        """
        wanted = json.loads(json.dumps(dict(params)))  # as they will be read back: tuples are lists
        inputs = dict(inputs or {})
        if not self.params_path.exists():
            for name in ("checkpoint.pt", "metrics.csv", "parts", "results.json", "manifest.json"):
                if (self.folder / name).exists():
                    raise RunError(
                        f"{self.folder / name}: no params.json beside it says how it was made; restore that file, or "
                        "delete it to start anew"
                    )
        # a run that was refused before it did anything has left no more than its parameters: they may be corrected
        if not self.params_path.exists() or not self._begun():
            atomic_write_json(self.inputs_path, inputs)
            atomic_write_json(self.params_path, wanted)  # the last one: now the run has begun
            return
        held = read_json(self.params_path)
        if not isinstance(held, dict):
            raise RunError(f"{self.params_path}: not the parameters of a run; restore the file")

        def shown(values: Mapping[str, Any], name: str) -> str:
            return repr(values[name]) if name in values else "not set"

        different = [
            f"{name} is {shown(held, name)} there and {shown(wanted, name)} here"
            for name in dict.fromkeys([*held, *wanted])
            if shown(held, name) != shown(wanted, name)
        ]
        advice = "choose another folder, or delete this one to start anew"
        if different:
            raise RunError(f"{self.folder} holds a run with other parameters ({'; '.join(different)}); {advice}")
        read = read_json(self.inputs_path)
        if not isinstance(read, dict):
            raise RunError(f"{self.inputs_path}: not the inputs of a run; restore the file")
        changed = [name for name in dict.fromkeys([*read, *inputs]) if shown(read, name) != shown(inputs, name)]
        if changed:
            what = ", ".join(
                f"{name} is {read[name]} there and {inputs[name]} here"
                if isinstance(inputs.get(name), int) and name in read
                else f"{name} has changed since"
                for name in changed
            )
            raise RunError(f"{self.folder} holds a run on other inputs ({what}); {advice}")

    def _begun(self) -> bool:
        """Whether anything but parameters, inputs, empty files and hidden ones is there."""
        files = (file for file in self.folder.rglob("*") if file.is_file() and not file.name.startswith("."))
        return any(file not in (self.params_path, self.inputs_path) and file.stat().st_size for file in files)

    def finish(self, results: Any, *, device: str, seed: int, inputs: Iterable[Path] = ()) -> None:
        """Write the results, then the manifest, after `start`; `inputs`: files or folders the run read."""
        atomic_write_json(self.results_path, results)
        self.close(inputs, device=device, seed=seed)

    def close(self, inputs: Iterable[Path], **facts: Any) -> None:
        """Write the manifest, last of all files, with more ``facts``: the run is complete."""
        # params.json is written once, so its time is that of the first start, over all continuations
        started = datetime.fromtimestamp(self.params_path.stat().st_mtime, UTC)
        atomic_write_json(self.manifest_path, manifest(started, inputs, **facts))

    def results(self) -> Any:
        """The results of a complete run."""
        if not self.complete:
            raise RunError(f"{self.folder} holds no complete run; start it again to continue it")
        return read_json(self.results_path)


def manifest(started: datetime, inputs: Iterable[Path], **facts: Any) -> dict[str, Any]:
    """What it takes to make a run again: code, versions, machine, input hashes, times (UTC), more facts."""
    packages = ("torch", "transformers", "trl", "peft", "accelerate", "numpy")
    return {
        "git": git_state(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "inputs": hashes(inputs),
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    }


def hashes(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 by file, for files and all files below folders; named relative to the repository if inside."""
    found: dict[str, str] = {}
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in (file.resolve() for file in files if not file.is_dir()):
            found[str(file.relative_to(REPO)) if file.is_relative_to(REPO) else file.name] = sha256(file)
    return found


def git_state() -> dict[str, str | bool | None]:
    """The revision of the clone and whether files differ from it; None for both outside of one.

    A repository that an installed package or a copy of these files happens to lie in is not the project's.
    """

    def git(*arguments: str) -> str:
        # a hook of another repository sets GIT_DIR
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", *arguments]
        found = subprocess.run(command, cwd=REPO, env=environment, check=True, capture_output=True, text=True)
        return found.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() == REPO:
            return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):  # no git installed, or no repository
        pass
    return {"revision": None, "dirty": None}
