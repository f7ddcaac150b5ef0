"""The project's command line: ``python -m uma_lib COMMAND``; ``-h`` after any command lists its parameters.

base      make the shipped base model again           train     one reinforcement-learning run
evaluate  agents by horizon                           revisions agents by the rate of revisions, and why they fail
analyse   habits of a policy before and after RL      pipeline  notebooks 01-05 with a parameter file
figures   draw the figures from committed results
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes time to import
    from uma_lib.processes import end_at_signals

    end_at_signals("uma_lib")

import argparse
import sys
from pathlib import Path
from typing import Any

from uma_lib.paths import FIGURES, RESULTS, RUNS
from uma_lib.processes import INTERRUPTED, carry_out
from uma_lib.runs import RunError, check, load_parameters, load_yaml


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Values of ``--parameters FILE``, then of every ``--set NAME=VALUE``, read as YAML."""
    values = load_parameters(arguments.parameters) if arguments.parameters else {}
    names: set[str] = set()
    for pair in arguments.set:
        name, equals, text = pair.partition("=")
        if not equals:
            raise RunError(f"--set {pair}: write it as name=value")
        if name in names:
            raise RunError(f"--set {name} is given twice; give it once")
        names.add(name)
        values[name] = load_yaml(text, f"--set {name}: {text[:60]!r}")
    return values


def run(arguments: argparse.Namespace) -> None:
    """Carry out one command; the modules that import torch are loaded only when they are needed."""
    if arguments.command == "base":
        from uma_lib.base import BaseConfig, make_base

        config = check(BaseConfig, settings(arguments))
        _together(arguments, lambda: make_base(config, arguments.out))
    elif arguments.command == "train":
        from uma_lib.training import TrainingConfig, train

        config = check(TrainingConfig, settings(arguments))
        _together(arguments, lambda: train(config, arguments.out))
    elif arguments.command == "evaluate":
        from uma_lib.evaluation import EvaluationConfig
        from uma_lib.evaluation import run as evaluate

        evaluate(check(EvaluationConfig, settings(arguments)), arguments.out)
    elif arguments.command == "revisions":
        from uma_lib.revisions import RevisionsConfig
        from uma_lib.revisions import run as revise

        revise(check(RevisionsConfig, settings(arguments)), arguments.out)
    elif arguments.command == "analyse":
        from uma_lib.analysis import AnalysisConfig
        from uma_lib.analysis import run as analyse

        analyse(check(AnalysisConfig, settings(arguments)), arguments.out)
    elif arguments.command == "pipeline":
        from uma_lib.pipeline import run_pipeline

        run_pipeline(arguments.parameters, arguments.out)
    else:
        from uma_lib.plots import draw_all
        from uma_lib.processes import clear_temporaries

        clear_temporaries(arguments.out)
        draw_all(arguments.results, arguments.out)


def _together(arguments: argparse.Namespace, work) -> None:
    """Run ``work`` here, or start this command again in several processes."""
    from uma_lib.distributed import launch, started_together

    if arguments.processes > 1 and not started_together():
        words = [word for word in sys.argv[1:] if word]
        code = launch(words, arguments.processes)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            raise SystemExit(code)
    else:
        work()


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser("uma_lib", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = main.add_subparsers(dest="command", required=True)
    for name, default in (
        ("base", RUNS / "base"),
        ("train", RUNS / "train"),
        ("evaluate", RUNS / "evaluation"),
        ("revisions", RUNS / "revisions"),
        ("analyse", RUNS / "analysis"),
    ):
        command = commands.add_parser(name)
        command.add_argument(
            "--out", type=Path, default=default, help="folder of the run; an interrupted run continues"
        )
        command.add_argument("--parameters", type=Path, help="YAML file of parameters")
        command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter")
        if name in ("base", "train"):
            command.add_argument("--processes", type=int, default=1, help="processes that share the work")
    command = commands.add_parser("pipeline")
    command.add_argument("--parameters", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command = commands.add_parser("figures")
    command.add_argument("--results", type=Path, default=RESULTS)
    command.add_argument("--out", type=Path, default=FIGURES)
    return main


def kept(arguments: argparse.Namespace) -> str:
    """What an interrupted command leaves, and how to go on."""
    if arguments.command in ("analyse", "figures"):
        return f"files that are done are in {arguments.out}; run the same command again for all of them"
    return f"what is done so far is kept in {arguments.out}; run the same command again to go on"


def main() -> None:
    arguments = parser().parse_args()
    carry_out("uma_lib", lambda: run(arguments), lambda: kept(arguments))


if __name__ == "__main__":
    main()
