"""Where the things are that the project ships, whatever the current directory.

In a clone they lie beside the package: ``data/``, ``notebooks/``, ``figures/``. A package from ``pip install .`` has
``data/`` and ``notebooks/params/`` inside itself, and nothing is ever written there.

Paths that a user gives are relative to the current directory, and so are the folders that commands write to unless told
otherwise. Models and parameter files are looked for among what is shipped as well (`shipped`).
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
INSTALLED = (PACKAGE / "data").is_dir()
REPO = PACKAGE if INSTALLED else PACKAGE.parent  # the folder that data/ and notebooks/ lie in
NOTEBOOKS = REPO / "notebooks"
DATA = REPO / "data"
BASE = DATA / "nano"  # the shipped base model: weights, tokenizer, model card
RESULTS = DATA / "results"  # committed results of full runs, which the figures are drawn from
FIGURES = Path("figures") if INSTALLED else REPO / "figures"
RUNS = Path("runs")  # everything a run writes; never committed


def shipped(path: str | Path) -> Path:
    """A path as it is given or, where nothing is there, that of a shipped file or folder of this name.

    >>> shipped("data/nano").is_dir()  # from any directory
    True
    """
    path = Path(path)
    return REPO / path if not path.exists() and (REPO / path).exists() else path
