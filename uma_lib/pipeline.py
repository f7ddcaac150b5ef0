"""All notebooks, one after the other, from one parameter file into one folder.

The parameter file is YAML: a section of values for each notebook that needs some, named by its file, and a
section `common` for every notebook that declares the name:

    common: {SEED: 1}
    03_train: {STEPS: 60, LEARNING_RATE: 1.0e-4}

Everything in it is checked against the notebooks' `parameters` cells before the first one runs. The folder
holds the executed notebooks, what they write themselves (they get the folder as `RUN_DIR` if they declare
it), `pipeline.json` (what is done), and `manifest.json`, written last. Run again after an interruption, it
continues where it stopped; after a change of code, data, parameters or a notebook, it starts again from the
first notebook concerned.

The parameters cell is read here, not with `papermill.inspect_notebook`, which loses parameters without an
error: those typed `X | None`, and those with a second equals sign on their line, even in the comment.
"""

import ast
import hashlib
import json
import re
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from uma_lib.paths import DATA, NOTEBOOKS, PACKAGE
from uma_lib.processes import one_writer
from uma_lib.runs import (
    RunError,
    atomic_write_json,
    check_value,
    file_error,
    hashes,
    load_parameters,
    manifest,
    read_json,
    read_text,
    sha256,
    unknown,
)

RUN_DIR = "RUN_DIR"


def run_pipeline(parameters: Path, out: Path, *, notebooks: Path = NOTEBOOKS, stream: bool = False) -> Path:
    """Execute the numbered notebooks with the values in the file `parameters`; return the manifest's path.

    Notebooks that are complete in `out` are skipped. The bar shows the last line that the running notebook
    printed; `stream` prints all of them. Raises `RunError` for values that no notebook declares and for
    failed cells.
    """
    out = Path(out).resolve()
    plan = check_parameters(Path(parameters), notebooks, out)
    with one_writer(out):
        return _run(plan, Path(parameters), out, stream)


def _run(plan: dict[Path, dict[str, Any]], parameters: Path, out: Path, stream: bool) -> Path:
    state_path, manifest_path = out / "pipeline.json", out / "manifest.json"
    state = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "notebooks": {}}
    if state_path.exists():
        state = read_json(state_path)
    done: dict[str, Any] = state["notebooks"]

    key = _digest(hashes([*sorted(file for file in PACKAGE.iterdir() if file.is_file()), DATA]))
    with tqdm(total=len(plan), unit="notebook", desc="pipeline") as bar:
        for notebook, values in plan.items():
            stem, executed = notebook.stem, out / notebook.name
            key = _digest([key, _sources(notebook), values])  # holds the keys of all notebooks before it
            if done.get(stem, {}).get("key") == key and executed.exists():
                bar.update()
                continue
            _unlink(manifest_path)  # it would say that all is complete
            done.pop(stem, None)
            atomic_write_json(state_path, state)
            bar.set_description(stem)
            began = time.monotonic()
            _execute(notebook, executed, values, _Progress(bar, stream))
            done[stem] = {"key": key, "seconds": round(time.monotonic() - began, 1), "parameters": values}
            atomic_write_json(state_path, state)
            bar.update()
            bar.set_postfix_str("")

    if not manifest_path.exists():
        inputs = [parameters, DATA, *plan]
        facts = {path.stem: done[path.stem] | {"sha256": sha256(out / path.name)} for path in plan}
        started = datetime.fromisoformat(state["started"])
        atomic_write_json(manifest_path, manifest(started, inputs, notebooks=facts))
    return manifest_path


def check_parameters(parameters: Path, notebooks: Path, out: Path) -> dict[Path, dict[str, Any]]:
    """The values for each notebook, in the order to run them; refuses what no notebook declares."""
    paths = sorted(notebooks.glob("[0-9]*.ipynb"))
    if not paths:
        raise RunError(f"{notebooks}: no notebooks there; restore them with git checkout")
    declared = {path: declared_parameters(path) for path in paths}
    sections = load_parameters(parameters)
    allowed = ["common", *(path.stem for path in paths)]
    for name, values in sections.items():
        if name not in allowed:
            raise RunError(f"{parameters}: {unknown('section', name, allowed)}")
        if not isinstance(values, dict):
            raise RunError(f"{parameters}: section {name!r} must hold lines of the form 'name: value'")
        if RUN_DIR in values:
            raise RunError(f"{parameters}: {RUN_DIR} is set by the pipeline; pass --out instead")
    common = sections.get("common", {})
    for name in common:
        if not any(name in types for types in declared.values()):
            known = dict.fromkeys(other for types in declared.values() for other in types)
            raise RunError(f"{parameters}: {unknown('common parameter', name, known)}")
    plan = {}
    for path, types in declared.items():
        values = {name: value for name, value in common.items() if name in types}
        values |= sections.get(path.stem, {})
        if RUN_DIR in types:
            values[RUN_DIR] = str(out)
        plan[path] = check_papermill_parameters(path, values)
    return plan


def check_papermill_parameters(notebook: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the types the notebook declares; `RunError` for unknown names and wrong types."""
    types = declared_parameters(notebook)
    checked = {}
    for name, value in values.items():
        if name not in types:
            raise RunError(f"{notebook.name}: {unknown('parameter', name, types)}")
        try:
            checked[name] = check_value(name, value, types[name])
        except RunError as error:
            raise RunError(f"{notebook.name}: {error}") from error
    return checked


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Name -> type, from the cell tagged `parameters`; it may hold only `NAME: type = literal  # meaning`."""
    cells = [cell for cell in _read(notebook).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise RunError(f"{notebook.name}: {len(cells)} cells are tagged 'parameters'; tag exactly one")
    names = {kind.__name__: kind for kind in (bool, int, float, str, list, tuple)}
    types: dict[str, Any] = {}
    for node in ast.parse(cells[0].source).body:
        line = ast.unparse(node)
        try:
            if not isinstance(node, ast.AnnAssign) or node.value is None:
                raise ValueError("not an annotated assignment")
            name = ast.unparse(node.target)
            kind = eval(ast.unparse(node.annotation), {"__builtins__": {}}, names)
            check_value(name, ast.literal_eval(node.value), kind)
        except (ValueError, NameError, TypeError, RunError) as error:
            advice = f"write the parameter {line!r} as 'NAME: type = literal' ({error})"
            raise RunError(f"{notebook.name}: {advice}") from error
        types[name] = kind
    return types


class _Progress:
    """The file papermill writes a notebook's output to: its last line goes beside the bar."""

    def __init__(self, bar: tqdm, stream: bool) -> None:
        self.bar = bar
        self.stream = stream

    def write(self, text: str) -> None:
        lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
        if lines:
            self.bar.set_postfix_str(lines[-1][-70:])
        if self.stream:
            self.bar.write("\n".join(lines), file=sys.stdout)

    def flush(self) -> None:
        sys.stdout.flush()


def _execute(notebook: Path, executed: Path, values: dict[str, Any], progress: _Progress) -> None:
    def execute() -> None:
        try:
            papermill.execute_notebook(
                notebook,
                executed,
                values,
                kernel_name="python3",  # the kernel of the environment this runs in
                cwd=notebook.parent,
                progress_bar=False,
                stdout_file=progress,
                stderr_file=progress,
            )
        finally:
            ensure_event_loop().close()  # of this thread

    try:
        executed.parent.mkdir(parents=True, exist_ok=True)
        # in the main thread papermill would take over Ctrl-C, which ends a command in its own way (`processes`)
        with ThreadPoolExecutor(1) as aside:
            aside.submit(execute).result()
    except PapermillExecutionError as error:
        message = (error.evalue.splitlines() or [""])[0]
        raise RunError(
            f"{notebook.name} failed in cell [{error.exec_count}]: {error.ename}: {message} (see {executed})"
        ) from error
    except DeadKernelError as error:
        raise RunError(f"{notebook.name}: its kernel died, often for lack of memory; run again") from error
    except OSError as error:
        raise file_error(error, executed, "write") from error


def _read(notebook: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.reads(read_text(notebook), as_version=4)
    except (nbformat.ValidationError, ValueError) as error:
        raise RunError(f"{notebook}: not a valid notebook; restore it with git checkout") from error


def _sources(notebook: Path) -> list[str]:
    """What a notebook does: its code, without outputs and prose."""
    return [cell.source for cell in _read(notebook).cells if cell.cell_type == "code"]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise file_error(error, path, "write") from error
