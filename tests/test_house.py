"""The house rules: imports go only downwards, some rooms have no torch, committed notebooks are executed."""

import ast
import doctest
import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import papermill
import pytest
from jupyter_client.kernelspec import KernelSpecManager

import uma_lib
from uma_lib.files import read_json
from uma_lib.paths import NOTEBOOKS, PACKAGE, REPO, RESULTS
from uma_lib.pipeline import declared_parameters
from uma_lib.report import tables
from uma_lib.report.figures import AGENTS

# every file, lowest first; one may import only those before it
ORDER = """
    paths files parameters runs processes server views memory lenient calls tools scoring tolerant seeds statistics
    sample prompts ledger.language ledger.state ledger.questions ledger.streams ledger ledger.files ledger.authors
    ledger.testsets ledger.card ledger.schema ledger.dataset ledger.rewrite ledger.__main__
    terms metrics retrieval texts datasets.source datasets.build datasets.labels datasets.documents datasets.dialogues
    datasets.processed datasets.sets
    environment engines.protocol engines.remote engines.load engines.local engines.chat engines.policy
    engines.open engines.vllm
    agents.agent agents.uma agents.readers
    agents.memagent agents.mem1 agents.mem_alpha agents.a_mem agents.all
    judge assistant rollout credit distributed resume training
    nano.script nano.agents nano.demonstrations nano.habits nano.base rows summary evaluation estimate revisions
    report.results report.figures report.tables pipeline __main__ command
""".split()
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py" and (path.name != "__init__.py" or path.read_text().count("import"))
)
NOTEBOOK_PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
NOTEBOOK_BYTES = 4_000_000  # all together


def file_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported(module: str) -> set[str]:
    """The files of this package that `module` imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file_of(module).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "write imports in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("uma_lib.") in ORDER else node.module for name in names]
        else:
            continue
        found |= {name.removeprefix("uma_lib.") for name in names if name.startswith("uma_lib.")}
    return found & set(ORDER)


def test_every_module_has_its_place_and_the_readme_names_it() -> None:
    assert sorted(ORDER) == MODULES, "add the module to the order, here and in the README"
    tree = (REPO / "README.md").read_text().partition("in the order of its imports")[2]
    named = set(re.findall(r"\b(?:\w+/)?(\w+)\.py\b", tree))
    assert {module.rpartition(".")[2] for module in ORDER} - {"ledger"} <= named


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    below = set(ORDER[: ORDER.index(module)])
    assert imported(module) <= below


def test_imports_that_go_upwards_are_seen(tmp_path, monkeypatch) -> None:
    (tmp_path / "memory.py").write_text("def late():\n    from uma_lib.training import train\n")
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    assert imported("memory") == {"training"}


TORCH_FREE = """
    paths files parameters runs processes server views memory lenient calls tools scoring tolerant seeds sample prompts
    ledger ledger.dataset ledger.schema terms retrieval environment engines.protocol agents.agent agents.uma
    agents.readers agents.all engines.remote engines.open texts assistant views rollout credit nano.script nano.agents
""".split()


@pytest.mark.parametrize("module", TORCH_FREE)
def test_no_torch(module: str) -> None:
    code = f"import sys, uma_lib.{module}; print({{'torch', 'transformers'}} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("module", [name for name in MODULES if "__main__" not in name])
def test_examples_in_docstrings(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"uma_lib.{module}")).failed == 0


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
    everyone = tables.by_horizon(RESULTS / "agents" / "summary.json")
    names = {agent: label + (", three seeds" if agent == "uma_rl" else "") for agent, (label, _, _) in AGENTS.items()}
    for agent, name in names.items():
        if agent == "oracle":
            continue
        if agent in by_horizon["config"]["agents"]:
            records = [r for r in by_horizon["accuracy"] if (r["agent"], r["kind"]) == (agent, "all")]
            records.sort(key=lambda r: r["horizon"])
            assert f"| {name} | {' | '.join(map(cell, records))} |" in text
        if agent not in revised["config"]["agents"]:
            assert f"| {name} | {' | '.join(everyone.loc[name])} |" in text
            continue
        of_agent = {
            (r["rate"], r["depends"]): r for r in revised["accuracy"] if (r["agent"], r["horizon"]) == (agent, 10)
        }
        columns = [*((rate, "all") for rate in revised["config"]["rates"]), (0.4, "revised")]
        assert f"| {name} | {' | '.join(cell(of_agent[column]) for column in columns)} |" in text
    told = [record for record in revised["memory"] if record["agent"] == "uma_rl"]
    counts = {name: sum(record[name] for record in told) for name in ("revisions", "applied", "nothing", "added")}
    assert f"Of {counts['revisions']:,} revisions" in text and counts["applied"] == 0
    assert f"for {counts['nothing']} it changed" in text and f"for {counts['added']} it stored" in text
