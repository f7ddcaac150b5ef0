"""Where the things are that the project ships, whatever the current directory; importing this touches no file.

The folders lie beside the package, so the project runs from a clone (`pip install -e .`), not from a built wheel.
Paths that a user gives are relative to the current directory; for models see `uma_lib.runs.model_folder`.
"""

from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / "uma_lib"
NOTEBOOKS = REPO / "notebooks"
DATA = REPO / "data"
BASE = DATA / "nano"  # the shipped base model: weights, tokenizer, model card
RESULTS = DATA / "results"  # committed results of full runs, which the figures are drawn from
FIGURES = REPO / "figures"
RUNS = REPO / "runs"  # everything a run writes; never committed
