"""The house rules: imports go only downwards, some rooms have no torch, committed notebooks are executed."""

import ast
import doctest
import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import papermill
import pytest
from jupyter_client.kernelspec import KernelSpecManager

import uma_lib
from uma_lib.paths import NOTEBOOKS, PACKAGE, REPO, RESULTS
from uma_lib.pipeline import declared_parameters
from uma_lib.plots import AGENTS
from uma_lib.runs import read_json

# lowest first; a module may import only those before it
ORDER = """
    paths runs processes server memory lenient calls tools scoring tolerant reward ledger prompts terms retrieval
    environment demonstrator demonstrations distributed generation models policy resume rollout analysis base training
    baselines evaluation revisions results plots pipeline __main__
""".split()
MODULES = sorted(
    {path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
)
NOTEBOOK_PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
NOTEBOOK_BYTES = 4_000_000  # all together


def imported_rooms(module: str) -> set[str]:
    """The modules of this package that `module` imports, wherever in the file."""
    found: set[str] = set()
    files = [PACKAGE / f"{module}.py"] if (PACKAGE / f"{module}.py").exists() else (PACKAGE / module).glob("*.py")
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.ImportFrom):
            names = [f"uma_lib.{node.module or node.names[0].name}"]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("uma_lib.")}
    return found & set(ORDER) - {module}


def test_every_module_has_its_place() -> None:
    assert set(MODULES) <= set(ORDER), "add the module to the order, here and in the README"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    below = set(ORDER[: ORDER.index(module)])
    assert imported_rooms(module) <= below


TORCH_FREE = "paths runs processes server memory lenient calls tools scoring tolerant ledger reward".split()


@pytest.mark.parametrize("module", TORCH_FREE)
def test_no_torch(module: str) -> None:
    code = f"import sys, uma_lib.{module}; print({{'torch', 'transformers'}} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__main__"])
def test_examples_in_docstrings(module: str) -> None:
    names = [f"uma_lib.{module}"]
    names += [f"uma_lib.{module}.{path.stem}" for path in (PACKAGE / module).glob("[!_]*.py")]
    for name in names:
        assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_lock_holds_every_dependency_and_nothing_of_one_machine() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert project["version"] == uma_lib.__version__
    text = (REPO / "requirements.lock").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    without_dependencies = [line for line in text.splitlines() if line.startswith("# no-deps ")]
    pinned |= dict(line.removeprefix("# no-deps ").split("==") for line in without_dependencies)
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert {name.split("==")[0] for name in wanted} <= set(pinned)
    assert pinned["trl"].startswith("1.16.")
    assert not [line for line in lines if any(part in line for part in ("+", "@", "/", "nvidia", "triton"))]


def test_the_kernel_is_this_environment() -> None:
    # jupyter_client replaces a bare "python" by sys.executable; a path elsewhere would run something else
    command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    assert command == "python" or os.path.samefile(Path(command), sys.executable)


def test_there_are_the_five_notebooks_and_they_are_small() -> None:
    assert len(NOTEBOOK_PATHS) >= 5
    assert sum(path.stat().st_size for path in NOTEBOOK_PATHS) < NOTEBOOK_BYTES


@pytest.mark.parametrize("path", NOTEBOOK_PATHS, ids=lambda path: path.stem)
def test_notebooks_are_executed_in_order_without_error(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert any(cell.outputs for cell in code)
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("path", NOTEBOOK_PATHS, ids=lambda path: path.stem)
def test_papermill_sees_every_parameter(path: Path) -> None:
    # its line parser loses `X | None` and second equals signs, so that --help-notebook would not show them
    assert set(papermill.inspect_notebook(path)) == set(declared_parameters(path))


def test_the_tables_of_the_readme_are_the_results() -> None:
    def cell(record: dict) -> str:
        return f"{100 * record['accuracy']:.0f} [{100 * record['low']:.0f}, {100 * record['high']:.0f}]"

    text = (REPO / "README.md").read_text()
    by_horizon = read_json(RESULTS / "evaluation" / "summary.json")
    revised = read_json(RESULTS / "revisions" / "results.json")
    names = {agent: label + (", three seeds" if agent == "uma_rl" else "") for agent, (label, _, _) in AGENTS.items()}
    for agent, name in names.items():
        if agent == "oracle":
            continue
        if agent in by_horizon["config"]["agents"]:
            records = [r for r in by_horizon["accuracy"] if (r["agent"], r["kind"]) == (agent, "all")]
            records.sort(key=lambda r: r["horizon"])
            assert f"| {name} | {' | '.join(map(cell, records))} |" in text
        of_agent = {
            (r["rate"], r["depends"]): r for r in revised["accuracy"] if (r["agent"], r["horizon"]) == (agent, 10)
        }
        columns = [*((rate, "all") for rate in revised["config"]["rates"]), (0.4, "revised")]
        assert f"| {name} | {' | '.join(cell(of_agent[column]) for column in columns)} |" in text
    told = [record for record in revised["memory"] if record["agent"] == "uma_rl"]
    counts = {name: sum(record[name] for record in told) for name in ("revisions", "applied", "nothing", "added")}
    assert f"Of {counts['revisions']:,} revisions" in text and counts["applied"] == 0
    assert f"for {counts['nothing']} it changed" in text and f"for {counts['added']} it stored" in text
