"""Runs to be trusted: a log that survives a kill, a folder that goes on, a manifest written last.

A run is one folder: `params.json` and `inputs.json` (written at the start), `metrics.csv`, `results.json`, and
`manifest.json`, whose presence means that the run is complete.

This module knows nothing about models: it imports no torch.
"""

import csv
import io
import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from uma_lib.files import RunError, atomic_write_json, atomic_write_text, file_error, read_json, read_text, sha256
from uma_lib.paths import REPO

Scalar = bool | int | float | str | None


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
