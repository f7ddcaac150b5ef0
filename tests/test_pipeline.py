"""The pipeline over notebooks: what it runs again, what it reads without running it, files of parameters."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.test_runs import write_notebook
from uma_lib import pipeline
from uma_lib.files import RunError
from uma_lib.parameters import load_parameters
from uma_lib.paths import NOTEBOOKS, PACKAGE, REPO
from uma_lib.pipeline import check_papermill_parameters, check_parameters, declared_parameters, run_pipeline

PATHS = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
COMMITTED = ["cpu", "paper", "smoke"]


# --- the parameters cell is read, never run -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value", "kind"),
    [
        ("bool", "True", bool),
        ("float", "1", float),
        ("list", "[1, 'a']", list),
        ("list[int]", "[]", list[int]),
        ("list[list[float]]", "[[1.5]]", list[list[float]]),
        ("tuple[str, ...]", "('a',)", tuple[str, ...]),
        ("int | None", "None", int | None),
        ("list[str] | None", "None", list[str] | None),
    ],
)
def test_types_are_read_from_a_fixed_table(tmp_path: Path, annotation: str, value: str, kind: Any) -> None:
    write_notebook(tmp_path / "01_a.ipynb", f"A: {annotation} = {value}  # = anything")
    assert declared_parameters(tmp_path / "01_a.ipynb") == {"A": kind}


# makes a file, also where no builtins are given
MARK = (
    "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'catch_warnings'][0]()"
    "._module.__builtins__['open']('PATH', 'w')"
)


@pytest.mark.parametrize(
    "line",
    [
        "A: __import__('os').system('touch PATH') = 1",
        "A: MARK = 1",
        "A: list[MARK] = []",
        "A: int | MARK = 1",
        "A: (lambda: MARK)() = 1",
        "A: [MARK for _ in (1,)][0] = 1",
        'A: f"{MARK}" = 1',
        "A: (b := MARK) = 1",
        "A: int if MARK else str = 1",
        "A: int.__class__.__base__.__subclasses__() = 1",
        "A: ().__class__ = ()",
        "A: int = MARK",
        "A: list[int] = [1, MARK]",
        'A: str = f"{MARK}"',
        "A: int = 1; MARK",
        "import os\nMARK",
        "@MARK\ndef f(): pass",
        "class A(metaclass=MARK): pass",
        "A: 'int' = 1",
        "A: type = 1",
        "A: dict = {}",
        "A: None = None",
        "A: None | int = 1",
        "A: int | str = 1",
        "A: list[int, str] = []",
        "A: tuple[int] = (1,)",
        "A: tuple[int, str] = (1, 'a')",
        "a.b: int = 1",
        "A[0]: int = 1",
        "A: int = 1\nA: int = 2",
        "A: list = " + "[" * 5000 + "]" * 5000,
        "A: int = " + "-" * 5000 + "1",
        "A: int = " + "1" * 10_000,
        "A: " + "list[" * 3000 + "int" + "]" * 3000 + " = []",
        "A: " + "int | " * 5000 + "None = 1",
        "A: str = 'a' * 10**9",
        "A: int = 1 +",
        "%matplotlib inline",
        "A: int = 1\x00",
    ],
)  # fmt: skip
def test_a_crafted_cell_is_refused_and_runs_nothing(tmp_path: Path, line: str) -> None:
    mark = tmp_path / "mark"
    write_notebook(tmp_path / "01_a.ipynb", line.replace("MARK", MARK).replace("PATH", str(mark)))
    with pytest.raises(RunError, match=r"^01_a.ipynb: [^\n]*$") as caught:
        declared_parameters(tmp_path / "01_a.ipynb")
    assert len(str(caught.value)) < 500
    assert not mark.exists()


NOTEBOOK = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}
CELL = {"cell_type": "code", "id": "0", "metadata": {"tags": ["parameters"]}, "source": "A: int = 1"}


@pytest.mark.parametrize(
    "found",
    [
        [], 5, None, {}, NOTEBOOK | {"cells": 5}, NOTEBOOK | {"cells": [5]}, NOTEBOOK | {"cells": [{}]},
        NOTEBOOK | {"cells": [CELL | {"source": 5}]}, NOTEBOOK | {"cells": [CELL | {"source": [5]}]},
        NOTEBOOK | {"cells": [CELL | {"metadata": []}]}, NOTEBOOK | {"cells": [CELL | {"metadata": {"tags": "x"}}]},
        NOTEBOOK | {"cells": [CELL], "nbformat": 3}, NOTEBOOK | {"cells": [CELL, CELL]}, NOTEBOOK,
    ],
)  # fmt: skip
def test_a_notebook_of_a_wrong_shape_is_refused(tmp_path: Path, found: Any) -> None:
    (tmp_path / "01_a.ipynb").write_text(json.dumps(found))
    with pytest.raises(RunError, match=r"^01_a.ipynb: [^\n]*$"):
        declared_parameters(tmp_path / "01_a.ipynb")


# --- what runs again ----------------------------------------------------------------------------------------------


@pytest.fixture()
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Three notebooks that each write a file, beside a package and data of their own; `runs` counts executions."""
    found: dict[str, Any] = {"root": tmp_path, "runs": [], "out": tmp_path / "out", "fail": set()}
    for name, text in {
        "package/top.py": "1",
        "package/ledger/state.py": "1",
        "package/template.jinja": "1",
        "data/results/a.json": "1",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for stem in ("01_a", "02_b", "03_c"):
        write_notebook(tmp_path / f"{stem}.ipynb", "RUN_DIR: str = ''\nSEED: int = 0", "print(1)")
    (tmp_path / "p.yaml").write_text("common: {SEED: 1}\n")

    def execute(notebook: Path, executed: Path, values: dict, progress: object) -> None:
        found["runs"].append(notebook.stem)
        folder = executed.parent / notebook.stem
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "half").write_text(notebook.stem)
        if notebook.stem in found["fail"]:
            raise RunError("interrupted")
        (folder / "product").write_text(notebook.stem)
        executed.write_text("{}")

    monkeypatch.setattr(pipeline, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(pipeline, "DATA", tmp_path / "data")
    monkeypatch.setattr(pipeline, "_execute", execute)
    return found


def rerun(project: dict[str, Any]) -> list[str]:
    """Which notebooks the pipeline runs now."""
    project["runs"].clear()
    run_pipeline(project["root"] / "p.yaml", project["out"], notebooks=project["root"])
    return list(project["runs"])


ALL = ["01_a", "02_b", "03_c"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("package/top.py", "2", ALL),
        ("package/ledger/state.py", "2", ALL),  # below the top package
        ("package/ledger/new.py", "", ALL),
        ("package/template.jinja", "2", ALL),
        ("data/results/a.json", "2", ALL),
        ("data/more/b.csv", "", ALL),
        ("p.yaml", "common: {SEED: 2}\n", ALL),
        ("p.yaml", "common: {SEED: 1}\nc: {SEED: 2}\n", ["03_c"]),
        ("p.yaml", "# the same\ncommon:\n  SEED: 1\n", []),
        ("package/__pycache__/top.pyc", "2", []),
        ("package/ledger/.state.py.swp", "2", []),
        ("package/ledger/state.py~", "2", []),
        ("data/.ipynb_checkpoints/a.json", "2", []),
        ("out/02_b/product", "damaged", ["02_b", "03_c"]),
        ("out/.lock", "", []),
        ("out/notes.txt", "", []),
    ],
)
def test_a_changed_file_runs_again_what_may_read_it(project, name: str, text: str, expected: list[str]) -> None:
    assert rerun(project) == ALL and rerun(project) == []
    (project["root"] / name).parent.mkdir(parents=True, exist_ok=True)
    (project["root"] / name).write_text(text)
    assert rerun(project) == expected
    assert rerun(project) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("package/ledger/state.py", ALL),
        ("out/01_a/product", ALL),
        ("out/02_b/product", ["02_b", "03_c"]),  # the last one reads what it made
        ("out/03_c.ipynb", ["03_c"]),
        ("out/manifest.json", []),
    ],
)
def test_a_deleted_file_is_made_again(project, name: str, expected: list[str]) -> None:
    rerun(project)
    (project["root"] / name).unlink()
    assert rerun(project) == expected
    assert (project["out"] / "manifest.json").exists() and rerun(project) == []


def test_a_folder_of_another_origin_is_refused(project) -> None:
    """Also that of the notebooks themselves, which would be overwritten."""
    rerun(project)
    (project["out"] / "pipeline.json").unlink()
    for folder in (project["out"], project["root"]):
        project["out"] = folder
        with pytest.raises(RunError, match="holds notebooks, but no pipeline.json"):
            rerun(project)


def test_other_packages_run_everything_again(project, monkeypatch) -> None:
    rerun(project)
    real = pipeline.version
    monkeypatch.setattr(pipeline, "version", lambda name: "9" if name == "torch" else real(name))
    assert rerun(project) == ALL
    monkeypatch.setattr(pipeline.platform, "python_version", lambda: "9.9")
    assert rerun(project) == ALL


def test_the_packages_are_those_of_the_project() -> None:
    import tomllib

    wanted = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[=<>]", name)[0] for name in wanted} == set(pipeline.PACKAGES)
    assert {PACKAGE / "ledger" / "state.py", PACKAGE / "nano" / "chat_template.jinja"} <= set(pipeline._files(PACKAGE))


def test_what_was_written_before_is_kept_apart_and_never_read_again(project, capsys) -> None:
    rerun(project)
    (project["root"] / "package" / "ledger" / "state.py").write_text("2")
    project["fail"] = {"02_b"}
    with pytest.raises(RunError, match="interrupted"):
        rerun(project)
    kept = sorted(path.relative_to(project["out"] / "earlier").parts[1:] for path in project["out"].rglob("product")
                  if "earlier" in path.parts)  # fmt: skip
    assert kept == [(stem, "product") for stem in ALL]
    assert "01_a starts again; what it had written is in" in capsys.readouterr().err
    assert not (project["out"] / "03_c").joinpath("product").exists()

    # the interrupted one continues with what it had, unless something changed
    project["fail"] = set()
    assert rerun(project) == ["02_b", "03_c"]
    assert len(list((project["out"] / "earlier").iterdir())) == 3
    (project["root"] / "package" / "top.py").write_text("2")
    project["fail"] = {"01_a"}
    with pytest.raises(RunError, match="interrupted"):
        rerun(project)
    (project["root"] / "package" / "top.py").write_text("3")
    project["fail"] = set()
    assert rerun(project) == ALL
    halves = [path for path in (project["out"] / "earlier").glob("01_a-*/01_a/*")]
    assert sorted(path.name for path in halves) == ["half", "half", "half", "product", "product"]


@pytest.mark.parametrize(
    ("place", "new", "said"),
    [
        ("", "[]", "is .* not an object"),
        ("", "{", "not valid JSON"),
        ("", '{"started": 1, "notebooks": {}}', "started is 1"),
        ("", '{"started": "now", "notebooks": {}}', "started is no time"),
        ("", '{"started": "2026-01-01", "notebooks": []}', "notebooks is .* not dict"),
        ("key", 5, "notebooks.01_a.key is 5"),
        ("outputs", None, "notebooks.01_a.outputs is None"),
        ("outputs", {"a": 5}, r"notebooks.01_a.outputs\[0\] is 5"),
        ("ended", None, "notebooks.01_a.ended is None"),
        ("before", [], "notebooks.01_a.before is .* not dict"),
    ],
)
def test_a_damaged_state_is_refused(project, place: str, new: Any, said: str) -> None:
    rerun(project)
    path = project["out"] / "pipeline.json"
    if place:
        state = json.loads(path.read_text())
        state["notebooks"]["01_a"][place] = new
    path.write_text(json.dumps(state) if place else new)
    line = rf"^[^\n]*pipeline.json[^\n]*{said}[^\n]*choose another --out, or delete[^\n]*$"
    with pytest.raises(RunError, match=line):
        rerun(project)


# --- checks before anything runs ----------------------------------------------------------------------------------


def test_a_later_notebooks_own_check_comes_first(tmp_path: Path) -> None:
    write_notebook(tmp_path / "01_a.ipynb", "SEED: int = 0", "raise ValueError('ran')")
    write_notebook(tmp_path / "02_b.ipynb", "STEPS: int = 1", "assert STEPS > 0, 'STEPS must be above 0'", "print(1)")
    found = json.loads((tmp_path / "02_b.ipynb").read_text())
    found["cells"][1]["metadata"]["tags"] = ["check"]
    (tmp_path / "02_b.ipynb").write_text(json.dumps(found))
    (tmp_path / "p.yaml").write_text("b: {STEPS: 0}")
    with pytest.raises(RunError, match=r"^02_b.ipynb would fail: AssertionError: STEPS must be above 0$"):
        run_pipeline(tmp_path / "p.yaml", tmp_path / "out", notebooks=tmp_path)
    assert not list((tmp_path / "out").glob("*"))


def checked(notebook: str, values: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The names that a notebook has after its parameters cell, these values and its check cell."""
    path = next(NOTEBOOKS.glob(f"{notebook}_*.ipynb"))
    code = pipeline._code(path)
    (parameters,) = (source for source, tags in code if "parameters" in tags)
    (check,) = (source for source, tags in code if "check" in tags)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(parameters, names)  # noqa: S102  the project's own notebooks
    names |= values
    exec(check, names)  # noqa: S102
    if "temporary" in names:
        names["temporary"].cleanup()
    return names


NAN, INF = float("nan"), float("inf")
REFUSED = [
    ("01", {"RATES": []}, "RATES"),
    ("01", {"STREAM": -1}, "STREAM"),
    ("01", {"REVISED_STREAM": -1}, "REVISED_STREAM"),
    ("01", {"SESSIONS": 0}, "SESSIONS"),
    ("01", {"SESSIONS": -3}, "SESSIONS"),
    ("01", {"READ_ALOUD": 0}, "READ_ALOUD"),
    ("01", {"REVISED_SESSIONS": 0}, "REVISED_SESSIONS"),
    ("01", {"RATE_STREAMS": 0}, "RATE_STREAMS"),
    ("01", {"BLIND_STREAMS": 0}, "BLIND_STREAMS"),
    ("01", {"SEED": -1}, "SEED"),
    ("01", {"PER_KIND": 0}, "PER_KIND"),
    ("01", {"HORIZONS": []}, "HORIZONS"),
    ("01", {"HORIZONS": [2, 2], "STREAMS": [1, 1]}, "horizons names"),
    ("01", {"HORIZONS": [0], "STREAMS": [1]}, "HORIZONS"),
    ("01", {"STREAMS": [5]}, "streams has 1"),
    ("01", {"REVISIONS": -0.1}, "revisions"),
    ("01", {"REVISIONS": 1.5}, "revisions"),
    ("01", {"REVISIONS": NAN}, "REVISIONS"),
    ("01", {"RATES": [0.1, NAN]}, "RATES"),
    ("01", {"RATES": [2.0]}, "rates"),
    ("01", {"RATES": [0.1, 0.1]}, "rates"),
    ("01", {"RATES": [-0.1]}, "rates"),
    ("01", {"RATES": 0.1}, "RATES"),
    ("01", {"SIZE": "tiny"}, "size"),
    ("01", {"SPLIT": "dev"}, "split"),
    ("01", {"SESIONS": 5}, "did you mean 'SESSIONS'"),
    ("01", {"SESSIONS": 2.5}, "SESSIONS"),
    ("01", {"SESSIONS": "12"}, "SESSIONS"),
    ("01", {"SESSIONS": True}, "SESSIONS"),
    ("02", {"STREAM": -1}, "STREAM"),
    ("02", {"SESSIONS": 0}, "SESSIONS"),
    ("02", {"SAMPLES": 0}, "SAMPLES"),
    ("02", {"SIZE": "tiny"}, "size"),
    ("02", {"SPLIT": "dev"}, "split"),
    ("02", {"TEMPERATURE": -1.0}, "TEMPERATURE"),
    ("02", {"TEMPERATURE": NAN}, "TEMPERATURE"),
    ("02", {"SLOTS": 0}, "SLOTS"),
    ("02", {"SEED": -1}, "SEED"),
    ("02", {"SESSION_TOKENS": -1}, "SESSION_TOKENS"),
    ("02", {"CORE_TOKENS": 0}, "CORE_TOKENS"),
    ("03", {"PROCESSES": 0}, "PROCESSES"),
    ("03", {"ANALYSIS_STREAMS": 0}, "ANALYSIS_STREAMS"),
    ("03", {"ANALYSIS_SESSIONS": -1}, "ANALYSIS_SESSIONS"),
    ("03", {"STEPS": 0}, "steps"),
    ("03", {"LR": INF}, "LR"),
    ("03", {"LENGTHS": []}, "LENGTHS"),
    ("03", {"LENGTHS": [0]}, "LENGTHS"),
    ("03", {"LATE_LENGTHS": [-2]}, "LATE_LENGTHS"),
    ("03", {"TEMPERATURE": NAN}, "TEMPERATURE"),
    ("03", {"LORA_RANK": -1}, "LORA_RANK"),
    ("03", {"SEED": -1}, "SEED"),
    ("03", {"EVAL_STREAMS": 0}, "EVAL_STREAMS"),
    ("03", {"EVAL_SESSIONS": 0}, "EVAL_SESSIONS"),
    ("03", {"train": {"STEPS": 2}}, "'train' is a section of a file for all notebooks"),
    ("03", {"common": {"SMOKE": False}}, "notebooks/params/cpu/03_train.yaml"),
    ("04", {"HORIZONS": []}, "HORIZONS"),
    ("04", {"KIND_HORIZON": 3}, "KIND_HORIZON"),
    ("04", {"REVISED_STREAMS": []}, "REVISED_STREAMS"),
    ("04", {"REVISED_HORIZONS": [0]}, "REVISED_HORIZONS"),
    ("04", {"RATES": []}, "RATES"),
    ("04", {"RATES": [0.0, 1.5]}, "rates"),
    ("04", {"AGENTS": []}, "agents"),
    ("04", {"AGENTS": ["gpt"]}, "agents"),
    ("04", {"SIZE": "tiny"}, "size"),
    ("04", {"EVALUATION": "nowhere.yaml"}, "nowhere.yaml"),
    ("04", {"SPLIT": "dev"}, "split"),
    ("04", {"STREAMS": [8, 8]}, "streams has 2"),
    ("04", {"SEED": -1}, "SEED"),
    ("04", {"TEMPERATURE": INF}, "TEMPERATURE"),
    ("05", {"PAPER_VERSION": "v3"}, "paper version 'v3'"),
    ("05", {"KIND_HORIZON": 0}, "KIND_HORIZON"),
    ("05", {"PAPER_VERSION": "v1"}, "name another FIGURES_DIR"),
    ("05", {"KIND_HORIZON": 20}, "name another FIGURES_DIR"),
    ("05", {"PAPER_VERSION": "v1", "FIGURES_DIR": "figures"}, "name another FIGURES_DIR"),
    ("05", {"FIGURES_DIR": "figures/more"}, "name another FIGURES_DIR"),
    ("05", {"RUN_DIR": "."}, "name another FIGURES_DIR"),
    ("05", {"RUN_DIR": "runs/x", "FIGURES_DIR": "figures"}, "name another FIGURES_DIR"),
]


@pytest.mark.parametrize(("notebook", "values", "said"), REFUSED, ids=[f"{n}-{v}" for n, v, _ in REFUSED])
def test_a_notebook_refuses_what_cannot_work(tmp_path, monkeypatch, notebook: str, values: dict, said: str) -> None:
    monkeypatch.chdir(tmp_path)  # they run from any folder
    with pytest.raises(RunError, match=rf"(?i)^[^\n]*{re.escape(said)}[^\n]*$"):
        checked(notebook, values, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("notebook", "values"),
    [
        ("01", {"REVISIONS": 0.0, "RATES": [0.0]}),
        ("01", {"STREAM": 100_000_000}),
        ("02", {"SAMPLES": 1, "TEMPERATURE": 0.0}),
        ("03", {"LR": 1, "SEED": 7}),
        ("04", {"AGENTS": ["oracle"]}),
        ("04", {"RATES": [0.0]}),
        ("04", {"EVALUATION": "notebooks/params/thirteen-server.yaml"}),
        ("05", {"PAPER_VERSION": "v1", "FIGURES_DIR": "runs/v1"}),
        ("05", {"PAPER_VERSION": "v1", "RUN_DIR": "runs/x"}),
    ],
)
def test_a_notebook_takes_what_can(tmp_path, monkeypatch, notebook: str, values: dict) -> None:
    monkeypatch.chdir(tmp_path)
    checked(notebook, values, tmp_path)
    assert Path.cwd() == (tmp_path if notebook == "01" else REPO)


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_parameters_pass_the_notebooks_own_checks(tmp_path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for path, values in check_parameters(NOTEBOOKS / "params" / f"{name}.yaml", NOTEBOOKS, tmp_path / "out").items():
        checked(path.stem[:2], values, tmp_path)


# --- parameter files -------------------------------------------------------------------------------------------------


def test_sections_name_files_beside_the_parameter_file(tmp_path: Path) -> None:
    write_notebook(tmp_path / "01_a.ipynb", "SEED: int = 0\nSTEPS: int = 1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "p.yaml").write_text("common: {SEED: 1}\na: one/a.yaml")
    (tmp_path / "sub" / "one").mkdir()
    for text, said in (
        ("STEPS: 3", None), ("STEP: 3", "did you mean 'STEPS'"), ("- 3", "expected lines"), ("a: [", "not valid YAML"),
        ("RUN_DIR: x", "RUN_DIR is set by the pipeline"),
    ):  # fmt: skip
        (tmp_path / "sub" / "one" / "a.yaml").write_text(text)
        if said is None:
            (values,) = check_parameters(tmp_path / "sub" / "p.yaml", tmp_path, tmp_path).values()
            assert values == {"SEED": 1, "STEPS": 3}
        else:
            with pytest.raises(RunError, match=said):
                check_parameters(tmp_path / "sub" / "p.yaml", tmp_path, tmp_path)
    (tmp_path / "sub" / "one" / "a.yaml").unlink()
    with pytest.raises(RunError, match=r"a.yaml: no such file"):
        check_parameters(tmp_path / "sub" / "p.yaml", tmp_path, tmp_path)


@pytest.mark.parametrize(
    "path", sorted(NOTEBOOKS.glob("params/*/*.yaml")), ids=lambda path: path.parent.name + path.stem
)
def test_a_file_of_one_notebook_holds_what_the_pipeline_gives_it(tmp_path: Path, path: Path) -> None:
    plan = check_parameters(NOTEBOOKS / "params" / f"{path.parent.name}.yaml", NOTEBOOKS, tmp_path)
    notebook = NOTEBOOKS / f"{path.stem}.ipynb"
    alone = check_papermill_parameters(notebook, load_parameters(path))
    assert alone | {"RUN_DIR": str(tmp_path)} == plan[notebook]
    assert all(name.isidentifier() for name in load_parameters(path.parent.with_suffix(".yaml")))  # papermill sets them
