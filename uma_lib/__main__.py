"""The project's command line: ``uma COMMAND`` or ``python -m uma_lib COMMAND``; ``-h`` after any lists all it takes.

A memory over your own text:
read      read texts and chats into a memory          ask       answer questions from it
show      show what it holds

The experiment:
base      make the shipped base model again           train     one reinforcement-learning run
evaluate  agents on data sets                         revisions agents by the rate of revisions, and why they fail
analyse   habits of a policy before and after RL      pipeline  notebooks 01-05 with a parameter file
figures   draw the figures from committed results     ledger    Ledger-QA: make, rewrite, verify, describe, lock, card
sets      the data sets of the paper, with their cards
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes time to import
    from uma_lib.processes import end_at_signals

    end_at_signals("uma_lib")

import argparse
import dataclasses
import importlib
import inspect
import json
import re
import shlex
import sys
import textwrap
import tokenize
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from uma_lib.files import RunError, read_json
from uma_lib.parameters import check, load_parameters, load_yaml, type_name
from uma_lib.paths import FIGURES, RESULTS, RUNS
from uma_lib.processes import INTERRUPTED, carry_out
from uma_lib.runs import Run

CONFIGURED = {  # commands with parameters: their dataclass, where their runs go, what they do
    "base": ("uma_lib.nano.base.BaseConfig", RUNS / "base", "make the shipped base model again"),
    "train": ("uma_lib.training.TrainingConfig", RUNS / "train", "one reinforcement-learning run"),
    "evaluate": ("uma_lib.evaluation.EvaluationConfig", RUNS / "evaluation", "agents on data sets"),
    "revisions": ("uma_lib.revisions.RevisionsConfig", RUNS / "revisions", "agents by the rate of revisions"),
    "analyse": ("uma_lib.nano.habits.AnalysisConfig", RUNS / "analysis", "habits of a policy before and after RL"),
}


ASSISTANT = {  # commands on a memory of one's own text
    "read": "read files into a memory, which is made if it is not there",
    "ask": "answer questions from a memory",
    "show": "show what a memory holds",
}


# --- parameters ---------------------------------------------------------------------------------------------------


def configuration(command: str) -> type:
    """The dataclass of a command's parameters. It is imported only here, since most modules import torch."""
    place = "uma_lib.assistant.AssistantConfig" if command in ASSISTANT else CONFIGURED[command][0]
    module, _, name = place.rpartition(".")
    return getattr(importlib.import_module(module), name)


def described(config: type) -> str:
    """The parameters of a dataclass as YAML: name, default, and the comment beside the field with its type."""
    comments: dict[str, str] = {}
    for kind in reversed(config.__mro__[:-1]):
        comments |= {name: comment for name, comment in field_comments(kind) if comment}
    headings = {name: comment for name, comment in field_comments(config, above=True) if comment}
    types, lines = typing.get_type_hints(config), []
    for field in dataclasses.fields(config):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        written = f"{field.name}: {yaml.safe_dump([default], default_flow_style=True, width=10**6).strip()[1:-1]}"
        kind = _in_words(types[field.name])
        if field.name in headings:
            lines += ["", f"# {headings[field.name]}"]
        lines += textwrap.wrap(
            f"{written:<30} # {comments.get(field.name, '')} ({kind})", 112, subsequent_indent=f"{'':30} # ",
            break_long_words=False, drop_whitespace=True, replace_whitespace=False,
        )  # fmt: skip
    return "\n".join(lines)


def field_comments(config: type, above: bool = False) -> Iterator[tuple[str, str]]:
    """Name and comment of the fields that a dataclass itself declares: beside a field, or ``above`` it as a heading."""
    source = textwrap.dedent(inspect.getsource(config)).splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(iter(source).__next__))
    beside = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    own = vars(config)["__annotations__"]
    for token, following in zip(tokens, tokens[1:], strict=False):
        if token.start[1] == 4 and token.type == tokenize.NAME and token.string in own and following.string == ":":
            alone = source[token.start[0] - 2].lstrip().startswith("#")
            line = token.start[0] - 1 if above else token.start[0]
            yield token.string, beside.get(line, "") if alone or not above else ""


def _in_words(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(map(str, arguments))
    return f"list of {_in_words(arguments[0])}" if origin is tuple else type_name(kind)


class _Help(argparse.Action):
    """``--help`` of a command with parameters: they are looked up only when somebody asks."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        parameters = described(configuration(self.const))
        parser.epilog = f"parameters and their defaults, as lines of a file or with --set NAME=VALUE:\n{parameters}"
        parser.print_help()
        parser.exit()


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Values of ``--parameters FILE``, then of every ``--set NAME=VALUE``, read as YAML."""
    values = load_parameters(arguments.parameters) if arguments.parameters else {}
    names: set[str] = set()
    for pair in arguments.set:
        name, equals, text = pair.partition("=")
        if not equals:
            raise RunError(f"--set {pair!r}: write it as name=value")
        if name in names:
            raise RunError(f"--set {name} is given twice; give it once")
        names.add(name)
        values[name] = load_yaml(text, f"--set {name}: {text[:60]!r}")
    return values


# --- commands -----------------------------------------------------------------------------------------------------


def assist(arguments: argparse.Namespace) -> None:
    """`read`, `ask` and `show`: what is said comes to standard output, a line an answer where it can."""
    from uma_lib.assistant import MemoryAgent

    folder, values = arguments.folder, {} if arguments.command == "show" else settings(arguments)
    if arguments.command == "show":
        show(folder, arguments.history)
        return
    shortcuts = {"model": arguments.model, "name": arguments.name}
    values |= {name: value for name, value in shortcuts.items() if value is not None}
    check(configuration(arguments.command), values)
    there = (folder / "agent.json").exists()
    if arguments.command == "read":
        for path in arguments.files:
            if str(path) != "-" and not path.is_file():
                raise RunError(f"{path}: no such file; nothing was read")
        agent = MemoryAgent.load(folder, **values) if there else MemoryAgent(**values)
        if not there or values:
            agent.save(folder)  # with these settings from now on
        for path in arguments.files:
            text = sys.stdin.read() if str(path) == "-" else path
            traces = agent.read(text, arguments.source)
            cut = sum(not trace.finished for trace in traces)
            ended = f" ({cut} of them came to no end within the limits)" if cut else ""
            print(f"{path}: {len(traces)} chunks read{ended}; {len(agent.memory.bank)} entries in the bank")
        return
    agent = MemoryAgent.load(folder, **values)
    for question in arguments.questions:
        answer = agent.ask(question)
        if arguments.trace:
            print(answer.trace.said, end="\n\n")
        print(answer)


def show(folder: Path, history: bool) -> None:
    """Print the core and the bank of a memory, or what each chunk has changed. Needs no model."""
    from uma_lib.assistant import records_of
    from uma_lib.memory import MemoryBank

    bank, records, core = MemoryBank(), records_of(folder)[0], ""
    for number, record in enumerate(records, start=1):
        version = bank.version
        bank.replay(record["changes"])
        core = record["core"]
        if history:
            where = f" of {record['source']}" if "source" in record else ""
            print(f"--- chunk {number}{where}\n{record['chunk']}\n{bank.diff(version, bank.version)}\ncore: {core}\n")
    if not history:
        print(f"{len(records)} chunks read\ncore: {core or '(empty)'}\n{bank.list().text}")


def run(arguments: argparse.Namespace) -> None:
    """Carry out one command and say what came out; the modules that import torch are loaded only when needed."""
    if arguments.command in ASSISTANT:
        assist(arguments)
        return
    out, command = getattr(arguments, "out", None), arguments.command
    config = check(configuration(command), settings(arguments)) if command in CONFIGURED else None
    if command == "base":
        from uma_lib.nano.base import make_base

        _together(arguments, lambda: make_base(config, out))
    elif command == "train":
        from uma_lib.training import train

        _together(arguments, lambda: train(config, out))
    elif command == "evaluate":
        evaluate(arguments, config)
        return
    elif command == "sets":
        show_sets(arguments)
        return
    elif command == "revisions":
        from uma_lib.revisions import run as revise

        revise(config, out)
    elif command == "analyse":
        from uma_lib.nano.habits import run as analyse

        analyse(config, out)
    elif command == "pipeline":
        from uma_lib.pipeline import run_pipeline

        run_pipeline(arguments.parameters, out)
    else:
        from uma_lib.processes import clear_temporaries
        from uma_lib.report.figures import draw_all

        clear_temporaries(out)
        draw_all(arguments.results, out)
    from uma_lib.distributed import started_together

    if not started_together():  # else the process that started them says it, once
        print(outcome(command, config, out))


def evaluate(arguments: argparse.Namespace, config: Any) -> None:
    """`evaluate` and what it can do besides: an estimate, a shard, shards merged."""
    from uma_lib import evaluation

    out, (k, n) = arguments.out, arguments.shard
    if arguments.estimate:
        from uma_lib.estimate import estimate

        print(estimated(estimate(config, out)))
    elif arguments.merge:
        evaluation.merge(config, arguments.merge, out)
        print(outcome("evaluate", config, out))
    elif evaluation.run(config, out, retry=arguments.retry, shard=(k - 1, n)):
        print(outcome("evaluate", config, out))
    else:
        print(f"shard {k} of {n} is done; when all are: uma evaluate ... --merge {out} OTHERS --out FOLDER")


def estimated(rows: list[dict[str, Any]]) -> str:
    """An estimate as a table, and its sums."""

    def line(row: dict[str, Any], name: str) -> str:
        hours = "" if row["seconds"] is None else f"{row['seconds'] / 3600:.2f}"
        money = "" if row["money"] is None else f"{row['money']:.2f}"
        return (
            f"{name:<36} {row['chunks']:>7,} {row['questions']:>9,} {row['read']:>13,} {row['written']:>11,} "
            f"{hours:>8} {money:>8}"
        )

    def total(column: str) -> float | None:
        values = [row[column] for row in rows]
        return None if None in values else sum(values)

    heads = f"{'agent, set':<36} {'chunks':>7} {'questions':>9} {'tokens read':>13} {'written':>11} {'hours':>8} money"
    everything = {name: total(name) for name in ("chunks", "questions", "read", "written", "seconds", "money")}
    lines = [line(row, f"{row['agent']}-{row['seed']}, {row['set']}") for row in rows]
    told = "hours: of one session after the other as they were measured here; from answers in the folder of the run"
    return "\n".join([heads, *lines, line(everything, "all"), told])


def show_sets(arguments: argparse.Namespace) -> None:
    """Cards of data sets; with a folder (or the hub) also what is in them."""
    from uma_lib.datasets.sets import SETS, load_set
    from uma_lib.parameters import unknown

    for name in arguments.names or SETS:
        if name.partition(":")[0] not in SETS:
            raise RunError(unknown("data set", name, SETS))
        card = SETS[name.partition(":")[0]].card
        print(f"{name}: {card.title}")
        if arguments.names:
            told = {"origin": card.origin, "licence": card.licence, "in the paper": card.paper, "built": card.built,
                    "differs": card.differs, "bad golds": card.golds}  # fmt: skip
            for what, text in told.items():
                print(textwrap.fill(f"{what}: {text}", 100, initial_indent="  ", subsequent_indent="    "))
        if arguments.data is not None:
            samples = list(load_set(name, "" if arguments.data == "hub" else arguments.data).samples("test"))
            chunks, questions = (sum(len(getattr(s, part)) for s in samples) for part in ("chunks", "questions"))
            print(f"  here: {len(samples)} samples, {chunks} chunks, {questions} questions")


def outcome(command: str, config: Any, out: Path) -> str:
    """What a command has made and where it is, in one or two lines, and what may come next."""
    model = out / "model"
    name = str(model) if re.fullmatch(r"[\w./-]+", str(model)) else json.dumps(str(model))  # as YAML
    if command == "train":
        found = Run(out).results()["eval_accuracy"]
        base = [f"model={config.base}"] if config.base != "data/nano" else []
        return (
            f"right answers on {config.eval_streams} held-out streams of {config.eval_sessions} sessions: "
            f"{found[0]:.2f} before, {found[-1]:.2f} after {config.steps} steps; the model is in {model}\n"
            f"evaluate it: {_command('evaluate', *base, f'trained=[{name}]')}"
        )
    if command == "base":
        measured = Run(out).results()["sampled"]["accuracy"]["all"]
        return (
            f"right answers on {config.card_streams} held-out streams: {measured['share']:.2f}; the model is in "
            f"{model}, with its card\ntrain it: {_command('train', f'base={name}')}"
        )
    if command == "evaluate":
        cells = [r for r in read_json(out / "summary.json")["accuracy"] if r["kind"] == "all"]
        over = f"at {_list(config.horizons)} sessions" if config.sets == ("ledger-qa",) else f"on {_list(config.sets)}"
        return f"right answers {over}: {_by_agent(cells)}\nall of it: {out / 'summary.json'}"
    if command == "revisions":
        cells = [r for r in Run(out).results()["accuracy"]
                 if r["depends"] == "all" and r["horizon"] == config.horizons[0]]  # fmt: skip
        over = f"at {config.horizons[0]} sessions, with {_list(config.rates)} revisions a purchase"
        return f"right answers {over}: {_by_agent(cells)}\nall of it: {out / 'results.json'}"
    if command == "analyse":
        measured = read_json(out / "habits.json")
        shares = [f"{measured[name]['accuracy']['all']['share']:.2f} by {getattr(config, name)}" for name in measured
                  if name != "config"]  # fmt: skip
        return f"right answers: {', '.join(shares)}\nhabits.json and trajectories.json are in {out}"
    what = "figures are" if command == "figures" else "executed notebooks and what they wrote are"
    return f"{what} in {out}"


def _by_agent(cells: list[dict[str, Any]]) -> str:
    agents = dict.fromkeys(cell["agent"] for cell in cells)
    told = [(cell["agent"], "-" if cell["accuracy"] is None else f"{cell['accuracy']:.2f}") for cell in cells]
    shares = {agent: " ".join(share for name, share in told if name == agent) for agent in agents}
    return ", ".join(f"{agent} {share}" for agent, share in shares.items())


def _list(values: typing.Iterable[Any]) -> str:
    return ", ".join(map(str, values))


def _command(name: str, *pairs: str) -> str:
    return " ".join(["uma", name, *(f"--set {shlex.quote(pair)}" for pair in pairs)])


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


def positive(text: str) -> int:
    """A number of processes."""
    if not re.fullmatch("0*[1-9][0-9]{0,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes; give 1 or more")
    return int(text)


def shard(text: str) -> tuple[int, int]:
    """K/N, the K-th of N parts."""
    found = re.fullmatch("([1-9][0-9]{0,3})/([1-9][0-9]{0,3})", text)
    if not found or int(found[1]) > int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part: write 2/4 for the second of four")
    return int(found[1]), int(found[2])


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    main = argparse.ArgumentParser("uma", description=__doc__, formatter_class=raw)
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, title in ASSISTANT.items():
        command = commands.add_parser(name, description=title, formatter_class=raw, add_help=name == "show")
        command.add_argument("folder", type=Path, metavar="FOLDER", help="of the memory")
        if name == "show":
            command.add_argument("--history", action="store_true", help="every chunk with what it has changed")
            continue
        command.add_argument(
            "-h", "--help", action=_Help, nargs=0, const=name, help="this list of options and all parameters"
        )
        if name == "read":
            command.add_argument("files", type=Path, nargs="+", metavar="FILE",
                                 help="texts, or chats as .json or .jsonl; - is standard input")  # fmt: skip
            command.add_argument("--source", metavar="NAME",
                                 help="what was read under this name is skipped; a file's name by default")  # fmt: skip
        else:
            command.add_argument("questions", nargs="+", metavar="QUESTION")
            command.add_argument("--trace", action="store_true", help="show turns and tool results; off by default")
        command.add_argument("--model", help="a folder, a .gguf file, a hub name or a server's address; "
                             "by default the one it was last read with")  # fmt: skip
        command.add_argument("--name", help="of the model at a server; by default as it was last read")
        command.add_argument("--parameters", type=Path, metavar="FILE", help="YAML file of parameters; none by default")
        command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                             help="one parameter, as often as needed; it overrides the file")  # fmt: skip
    commands.add_parser("ledger", add_help=False, description="Ledger-QA: python -m uma_lib.ledger")
    for name, (_, default, title) in CONFIGURED.items():
        command = commands.add_parser(name, description=title, formatter_class=raw, add_help=False)
        command.add_argument(
            "-h", "--help", action=_Help, nargs=0, const=name, help="this list of options and all parameters"
        )
        command.add_argument("--out", type=Path, default=default, metavar="FOLDER",
                             help=f"folder of the run, {default} by default; an interrupted run continues")  # fmt: skip
        command.add_argument("--parameters", type=Path, metavar="FILE", help="YAML file of parameters")
        command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                             help="one parameter, as often as needed; it overrides the file")  # fmt: skip
        if name == "evaluate":
            command.add_argument("--estimate", action="store_true",
                                 help="say what it will take, and do nothing; off by default")  # fmt: skip
            command.add_argument("--retry", action="store_true",
                                 help="ask again what could not be asked; off by default")  # fmt: skip
            command.add_argument("--shard", type=shard, default=(1, 1), metavar="K/N",
                                 help="play the K-th of N parts, in a folder of its own; 1/1 by default")  # fmt: skip
            command.add_argument("--merge", type=Path, nargs="+", metavar="FOLDER",
                                 help="put these folders of shards together; none by default")  # fmt: skip
        if name in ("base", "train"):
            command.add_argument("--processes", type=positive, default=1, metavar="N",
                                 help="processes that share the work, 1 by default")  # fmt: skip
    command = commands.add_parser("sets", description="the data sets, with their cards")
    command.add_argument("names", nargs="*", metavar="SET", help="show the cards of these; all titles by default")
    command.add_argument("--data", metavar="FOLDER",
                         help="load them from this folder, or write hub; not loaded by default")  # fmt: skip
    command = commands.add_parser("pipeline", description="notebooks 01-05 with a parameter file")
    command.add_argument("--parameters", type=Path, required=True, metavar="FILE",
                         help="YAML file with a section a notebook; notebooks/params has some")  # fmt: skip
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the run; it continues")
    command = commands.add_parser("figures", description="draw the figures from results files")
    command.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER",
                         help="the committed results by default")  # fmt: skip
    command.add_argument("--out", type=Path, default=FIGURES, metavar="FOLDER", help=f"{FIGURES} by default")
    return main


def kept(arguments: argparse.Namespace) -> str:
    """What an interrupted command leaves, and how to go on."""
    if arguments.command == "sets":
        return "nothing was written"
    if arguments.command in ASSISTANT:
        return f"every chunk that was read whole is kept in {arguments.folder}; run the same command again to go on"
    if arguments.command in ("analyse", "figures"):
        return f"files that are done are in {arguments.out}; run the same command again for all of them"
    return f"what is done so far is kept in {arguments.out}; run the same command again to go on"


def main() -> None:
    if sys.argv[1:2] == ["ledger"]:
        from uma_lib.ledger.__main__ import main as ledger

        del sys.argv[1]
        return ledger()
    arguments = parser().parse_args()
    carry_out("uma_lib", lambda: run(arguments), lambda: kept(arguments))


if __name__ == "__main__":
    main()
