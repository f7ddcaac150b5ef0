"""Accuracy of every agent by horizon (chunks of a sample), with intervals.

An evaluation is a folder. It is made of parts, one an agent, checkpoint and data set; a part's file is written
as a whole when the part is done, so an interrupted evaluation continues with the next part and repeats or
doubles nothing. From the parts come ``answers.csv`` (a row a question) and ``summary.json``, with records:

- ``accuracy``: agent, horizon, kind ("all" or a stratum of questions), accuracy, its 95 % interval low..high (None
  with fewer than two samples), the accuracy by checkpoint, the numbers of streams, questions and checkpoints;
- ``tolerant``: agent, horizon, kind, accuracy when answers are read as free text (`tolerant.score_tolerant`), and
  the strict one, for the cells in which both differ; chat models say more than the value;
- ``chance``: what the same answer to all questions of a kind would get, the commonest in training samples;
- ``tokens``: tokens a question in the prompt (tool results included), written, and for building the memory,
  shared by the questions that are asked of it.

With ``traces`` the folder also holds what happened in every session (``traces/*.jsonl.gz``, `read_traces`).

All language-model agents share the backbone and `Limits`. The memory agents read a stream once and answer all
its questions from the final memory. Concat and RAG use the base model, which was warm-started on reading too;
so does the floor ``question_only``, which is shown nothing of the stream.

`run` evaluates the agents and streams of a configuration; it takes other data sets and agents as well:

    >>> run(EvaluationConfig(), Path("out"), sets=[MyData()], specs=[AgentSpec("mine", MyAgent)])  # doctest: +SKIP
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from uma_lib.agents.agent import Kind, Trace
from uma_lib.agents.all import AgentSpec
from uma_lib.agents.readers import RAG, Concat, QuestionOnly
from uma_lib.agents.uma import UMA
from uma_lib.engines import load
from uma_lib.engines.open import open_engine
from uma_lib.engines.policy import Policy
from uma_lib.engines.protocol import Engine, NoModel, Progress
from uma_lib.environment import Limits
from uma_lib.files import (
    RunError,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    is_address,
    model_folder,
    read_json,
    read_text,
)
from uma_lib.ledger import MOST_SESSIONS, SIZES, SPLITS
from uma_lib.ledger.dataset import LedgerQA
from uma_lib.nano.agents import Oracle, Scripted
from uma_lib.parameters import bounded, unknown
from uma_lib.processes import one_writer
from uma_lib.resume import model_inputs
from uma_lib.retrieval import Encoder, MiniLM
from uma_lib.rollout import Context, check_room, roll_out
from uma_lib.runs import Run
from uma_lib.sample import Dataset, Question, Sample
from uma_lib.scoring import Score
from uma_lib.statistics import Row, accuracy_of

AGENTS = ("uma_base", "concat", "rag", "question_only", "uma_rl", "demonstrator", "oracle")
COLUMNS = {  # of answers.csv
    "agent": str,
    "seed": int,  # number of the checkpoint
    "horizon": int,  # chunks of the sample
    "stream": str,  # id of the sample
    "id": str,  # of the question
    "kind": str,
    "question": str,
    "gold": str,
    "answer": str,
    "correct": float,  # the data set's first metric; empty where the answer could not be scored
    "tolerant": float,  # its second one; of Ledger-QA: right when read as free text; empty where there is none
    "prompt_tokens": int,  # prompt and tool results
    "written_tokens": int,
    "memory_tokens": int,  # read and written to build the memory; the same for all questions of a stream
}


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated. Models are folders, names on the hub or servers, as in `engines.open`."""

    model: str = "data/nano"  # the base: a folder, a hub name, or a server, http://host:8000/v1#name
    trained: tuple[str, ...] = ()  # models after reinforcement learning, one a training seed
    agents: tuple[str, ...] = AGENTS  # who is evaluated
    horizons: tuple[int, ...] = (2, 5, 10, 20, 50)  # sessions in a stream
    streams: tuple[int, ...] = (60, 60, 60, 60, 60)  # how many, for each horizon
    split: str = "test"  # of the benchmark: validation is for choosing, test for reporting
    size: str = "small"  # of the Ledger-QA sessions: small, standard or hard
    revisions: float = 0.0  # above 0: streams of the track ledger-qa-revised, as many revisions for each purchase
    per_kind: int = 1  # questions of each kind a stream
    schema_given: bool = True  # whether the prompts say how to name entries
    temperature: float = 1.0  # of sampling; 0 takes the likeliest token
    seed: int = 0  # of sampling
    slots: int = 64  # sessions decoded together
    session_tokens: int = 1024  # budget of a session, its prompt included; as in training
    turn_tokens: int = 768  # budget of what is written in one turn
    core_tokens: int = 128  # budget of the core memory
    raw_search: bool = False  # question sessions of the memory agents may search the raw chunks
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of weights and arithmetic
    device: str = ""  # such as cuda or cpu; empty: the GPU if there is one
    traces: bool = False  # keep what happened in every session
    smoke: bool = False  # marks the results as those of a short trial; figures say so

    def __post_init__(self) -> None:
        if not set(self.agents) <= set(AGENTS):
            raise ValueError(f"agents must be of {', '.join(AGENTS)}, not {', '.join(self.agents)}")
        if "uma_rl" in self.agents and not self.trained:
            raise ValueError("uma_rl needs checkpoints: name them in trained, or leave it out of agents")
        for name, known in (("split", SPLITS), ("size", SIZES)):
            if getattr(self, name) not in known:
                raise ValueError(unknown(name, getattr(self, name), known))
        least_one = (1, math.inf)
        bounded(
            self, revisions=(0, 1), horizons=(1, MOST_SESSIONS), streams=least_one, per_kind=(1, 1000), slots=(1, 4096),
            temperature=(0, 100), seed=(0, math.inf), session_tokens=least_one, turn_tokens=least_one,
            core_tokens=least_one,
        )  # fmt: skip
        if not self.agents or not self.horizons:
            raise ValueError("agents and horizons must not be empty")
        if len(self.streams) != len(self.horizons):
            raise ValueError(f"streams has {len(self.streams)} numbers: give one for each of {self.horizons}")
        for name in ("agents", "horizons", "trained"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names something twice: {', '.join(map(str, values))}")

    @property
    def limits(self) -> Limits:
        """What one session may use, whoever plays it."""
        return Limits(session_tokens=self.session_tokens, turn_tokens=self.turn_tokens, core_tokens=self.core_tokens)


# --- agents -------------------------------------------------------------------------------------------------


def specs_of(config: EvaluationConfig) -> list[AgentSpec]:
    """The agents of a configuration, one a checkpoint; those of one model after each other."""
    base, nobody = (config.model,), (None,)
    # kind, models, whether it sees golds, and what of it is in the key of its randomness
    table: dict[str, tuple[Kind, Sequence[str | None], bool, Sequence[str]]] = {
        "uma_base": (UMA, base, False, ["seed"]),
        "concat": (Concat, base, False, ["name"]),
        "rag": (RAG, base, False, ["name"]),
        "question_only": (QuestionOnly, base, False, ["name"]),
        "uma_rl": (UMA, config.trained, False, ["seed"]),
        "demonstrator": (Scripted, nobody, True, []),
        "oracle": (Oracle, nobody, True, ["name"]),
    }
    specs = []
    for name, (kind, models, informed, keyed) in table.items():
        for seed, model in enumerate(models if name in config.agents else ()):
            key = ("evaluation", config.seed, *({"name": name, "seed": seed}[part] for part in keyed))
            specs.append(AgentSpec(name, kind, model, informed, seed, key))
    return specs


def sets_of(config: EvaluationConfig) -> list[LedgerQA]:
    """The data sets of a configuration, one a horizon."""
    return [
        LedgerQA(config.size, horizon, count, config.revisions, config.per_kind, config.schema_given)
        for horizon, count in zip(config.horizons, config.streams, strict=True)
    ]


def evaluate(
    spec: AgentSpec,
    data: Dataset,
    samples: Sequence[Sample],
    config: EvaluationConfig,
    *,
    engine: Engine | None = None,
    encode: Encoder | None = None,
    progress: Progress = None,
) -> tuple[list[Row], list[Context]]:
    """One agent on some samples: a row (see `COLUMNS`) a question, and the contexts with all traces.

    engine: the model's; None for an agent that asks none. RAG and raw search need ``encode``. ``config`` gives limits
    and sampling, not models and samples.
    """
    contexts = [Context(sample.id, sample) for sample in samples]
    roll_out(
        engine or NoModel(), contexts, 1, config.limits, spec.key or (spec.name, spec.seed), data=data, kind=spec.kind,
        informed=spec.informed, temperature=config.temperature, progress=progress, encode=encode,
        search=config.raw_search,
    )  # fmt: skip
    rows = []
    for context in contexts:
        (trajectory,) = context.trajectories
        memory = sum(sum(trace.cost) for trace in trajectory.sessions)
        for question, trace, scores in zip(
            context.sample.questions, trajectory.answers, trajectory.scores, strict=True
        ):
            rows.append(row_of(spec, context.sample, question, trace, scores, memory))
    return rows, contexts


def row_of(
    spec: AgentSpec, sample: Sample, question: Question, trace: Trace, scores: Sequence[Score], memory_tokens: int = 0
) -> Row:
    """The row (see `COLUMNS`) of one answer."""
    read, written = trace.cost
    return {
        "agent": spec.name,
        "seed": spec.seed,
        "horizon": len(sample.chunks),
        "stream": sample.id,
        "id": question.id,
        "kind": question.kind,
        "question": question.text,
        "gold": str(question.gold),
        "answer": " ".join((trace.answer or "").split()),  # on one line
        "correct": scores[0].value,
        "tolerant": scores[1].value if len(scores) > 1 else None,
        "prompt_tokens": read,
        "written_tokens": written,
        "memory_tokens": memory_tokens,
    }


# --- statistics ---------------------------------------------------------------------------------------------


def summarize(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The records of ``accuracy``, ``tokens`` and ``tolerant`` (see above) from the rows of all agents."""
    cells: dict[tuple[str, int, str], list[Row]] = defaultdict(list)
    for row in rows:
        for kind in ("all", row["kind"]):
            cells[row["agent"], row["horizon"], kind].append(row)
    accuracy = [
        {"agent": agent, "horizon": horizon, "kind": kind} | accuracy_of(cell)
        for (agent, horizon, kind), cell in cells.items()
    ]
    tokens = [
        {"agent": agent, "horizon": horizon} | _tokens(cell)
        for (agent, horizon, kind), cell in cells.items()
        if kind == "all" and any(row["prompt_tokens"] for row in cell)
    ]
    tolerant = []
    for (agent, horizon, kind), cell in cells.items():
        both = [row for row in cell if row["tolerant"] is not None and row["correct"] is not None]
        if not both:
            continue
        read, strict = (sum(row[name] for row in both) / len(both) for name in ("tolerant", "correct"))
        if read != strict:
            tolerant.append({"agent": agent, "horizon": horizon, "kind": kind, "accuracy": read, "strict": strict})
    return {"accuracy": accuracy, "tokens": tokens, "tolerant": tolerant}


def _tokens(cell: list[Row]) -> Row:
    memories = {(row["seed"], row["stream"]): row["memory_tokens"] for row in cell}
    return {
        "prompt": sum(row["prompt_tokens"] for row in cell) / len(cell),
        "written": sum(row["written_tokens"] for row in cell) / len(cell),
        "memory": sum(memories.values()) / len(cell),
    }


def chance(rows: Sequence[Row], sets: Sequence[Dataset]) -> list[Row]:
    """Accuracy of constant answers: to each kind of question the commonest one in 50 training samples of each set."""
    asked = list({row["id"]: row for row in rows}.values())  # once, whichever agents answered
    found = []
    for data in sets:
        golds: dict[str, Counter[str]] = defaultdict(Counter)
        horizons = set()
        for sample in islice(data.samples("train"), 50):
            horizons.add(len(sample.chunks))
            for question in sample.questions:
                golds[question.kind][str(question.gold)] += 1
        constant = {kind: counts.most_common(1)[0][0] for kind, counts in golds.items()}
        for horizon in sorted(horizons):
            hits: dict[str, list[bool]] = defaultdict(list)
            for row in asked:
                if row["horizon"] == horizon:
                    for kind in ("all", row["kind"]):
                        hits[kind].append(row["gold"] == constant.get(row["kind"]))
            found += [{"horizon": horizon, "kind": kind, "accuracy": sum(hit) / len(hit)} for kind, hit in hits.items()]
    return found


# --- whole evaluations --------------------------------------------------------------------------------------


def run(
    config: EvaluationConfig,
    out: str | Path,
    sets: Sequence[Dataset] | None = None,
    specs: Sequence[AgentSpec] | None = None,
) -> dict[str, Any]:
    """Evaluate into the folder ``out``, or continue there; returns the summary.

    sets, specs: data sets, of whose split ``config.split`` every sample is played, and agents; by default those of the
    configuration.

    Raises RunError for a folder that holds an evaluation with other parameters or of other models, for
    models that cannot be loaded, and for files that cannot be written.
    """
    given = {} if sets is None else {"sets": ", ".join(data.name for data in sets)}
    given |= {} if specs is None else {"specs": ", ".join(f"{spec.name} {spec.model or ''}".strip() for spec in specs)}
    sets, specs = sets_of(config) if sets is None else sets, specs_of(config) if specs is None else specs
    with one_writer(out):
        return _run(config, Path(out), sets, specs, given)


def _run(
    config: EvaluationConfig, out: Path, sets: Sequence[Dataset], specs: Sequence[AgentSpec], given: dict[str, str]
) -> dict[str, Any]:
    folder, summary_path = Run(out), out / "summary.json"
    names = Counter(part_name(spec, data) for spec in specs for data in sets)
    if twice := [name for name, count in names.items() if count > 1]:
        raise RunError(f"two parts are called {twice[0]}: give agents (or their seed) and data sets names of their own")
    models = list(dict.fromkeys(spec.model for spec in specs if spec.model))
    check_models(config, folder, sets, models)
    folder.start(asdict(config), inputs_of(models) | given)
    if folder.complete:
        return read_json(summary_path)

    folders = folders_of(models)
    parts = [(spec, data) for spec in specs for data in sets]
    encode = MiniLM() if config.raw_search or any(spec.kind is RAG for spec in specs) else None
    engine, loaded = None, None
    rows: list[Row] = []
    with tqdm(parts, unit="part", mininterval=1, miniters=0) as bar:

        def progress(done: int, tokens: int) -> None:
            bar.set_postfix_str(f"{done} done, {tokens} tokens", refresh=False)
            bar.update(0)  # drawn at most once a second

        for spec, data in bar:
            name = part_name(spec, data)
            path = out / "parts" / f"{name}.csv"
            samples = list(data.samples(config.split))
            if not any(sample.questions for sample in samples):
                raise RunError(f"the data set {data.name} asks nothing in the split {config.split}; leave it out")
            if not path.exists():
                bar.set_description(f"{spec.name}, {data.name}", refresh=False)
                if spec.model is not None and spec.model != loaded:
                    model = str(folders.get(spec.model, spec.model))
                    engine = open_engine(model, dtype=config.dtype, device=config.device, slots=config.slots)
                    loaded = spec.model
                found, contexts = evaluate(
                    spec, data, samples, config, engine=engine if spec.model else None, encode=encode, progress=progress
                )
                if config.traces:
                    write_traces(out / "traces" / f"{name}.jsonl.gz", contexts)
                atomic_write_text(path, _csv(found))
            # always from the file, so that a continued evaluation sees the same
            rows += _part(path, samples)

    atomic_write_text(out / "answers.csv", _csv(rows))
    summary = {"smoke": config.smoke, "config": asdict(config), **summarize(rows)}
    summary["chance"] = chance(rows, sets)
    atomic_write_json(summary_path, summary)
    folder.close(folders.values(), seed=config.seed)
    return read_json(summary_path)


def part_name(spec: AgentSpec, data: Dataset) -> str:
    """The name of the files of one part: agent, checkpoint, and what of the data set's name is fit for a file."""
    return f"{spec.name}-{spec.seed}-{re.sub(r'[^0-9A-Za-z.@_-]+', '-', data.name)}"


def check_models(config: EvaluationConfig, folder: Run, sets: Sequence[Dataset], models: Sequence[str]) -> None:
    """Refuse models that are damaged or that the sessions do not fit, before ``folder`` is begun. Reads no weights."""
    for name in models if not folder.complete else ():
        engine = open_engine(name) if is_address(name) else Policy(*load.without_weights(name))
        for data in sets[:1]:  # sessions of one configuration are alike
            check_room(engine, data, config.limits)


def inputs_of(models: Sequence[str]) -> dict[str, str]:
    """What the models that take part are made of (`model_inputs`); of one at a server only its name is known."""
    local = [name for name in models if not is_address(name)]
    found = {file: digest for name in local for file, digest in model_inputs(name).items()}
    return found | {name: "at a server" for name in models if is_address(name)}


def folders_of(models: Sequence[str]) -> dict[str, Path]:
    """The folders of the models that are not on the hub, by name."""
    found = {name: model_folder(name) for name in models if not is_address(name)}
    return {name: folder for name, folder in found.items() if folder}


# --- files --------------------------------------------------------------------------------------------------


def write_traces(path: Path, contexts: Sequence[Context]) -> None:
    """One line a sample: its id, and the traces of all sessions of the first trajectory."""
    lines = []
    for context in contexts:
        played = context.trajectories[0]
        record = {
            "sample": context.sample.id,
            "sessions": [trace.to_json() for trace in played.sessions],
            "answers": {
                question.id: trace.to_json()
                for question, trace in zip(context.sample.questions, played.answers, strict=True)
            },
        }
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    atomic_write_bytes(path, gzip.compress("".join(lines).encode(), mtime=0))


def read_traces(path: Path) -> Iterator[tuple[str, list[Trace], dict[str, Trace]]]:
    """Of each sample its id, the traces of its chunks, and those of its questions by id."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                found = json.loads(line)
                sessions = [Trace.from_json(trace) for trace in found["sessions"]]
                yield found["sample"], sessions, {n: Trace.from_json(trace) for n, trace in found["answers"].items()}
    except FileNotFoundError as error:
        raise RunError(f"{path}: no such file; evaluate with traces=True into a new folder") from error
    except (OSError, EOFError, ValueError, LookupError, TypeError, zlib.error) as error:
        raise RunError(f"{path}: not traces ({type(error).__name__}); delete the part and run again") from error


def read_answers(folder: Path) -> list[Row]:
    """The rows of a complete evaluation; `RunError` where a file is missing or damaged."""
    return _read_part(folder / "answers.csv")


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: _written(value) if isinstance(value, float) else value for name, value in row.items()} for row in rows
    )
    return text.getvalue()


def _written(value: float) -> str:
    """A score as a field: 1 and 0.5, never 1e-05."""
    return f"{value:.12f}".rstrip("0").rstrip(".")


def _part(path: Path, samples: Sequence[Sample]) -> list[Row]:
    """The rows of one part, which must be all of it."""
    rows = _read_part(path)
    if {row["stream"] for row in rows} != {sample.id for sample in samples if sample.questions}:
        raise RunError(f"{path}: not the whole part of an evaluation; delete the file and run again")
    return rows


def _read_part(path: Path) -> list[Row]:
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise RunError(f"{path}: not a table ({error}); delete the file and run again") from error
    for column in ("tolerant", "id"):
        if rows and list(rows[0]) == [name for name in COLUMNS if name != column]:
            raise RunError(f"{path}: has no column {column}, an older version wrote it; evaluate into a new folder")
    if not rows or any(list(row) != list(COLUMNS) or None in row.values() for row in rows):
        raise RunError(f"{path}: not a part of an evaluation; delete the file and run again")
    patterns = {int: "[0-9]{1,15}", float: r"([0-9]{1,15}(\.[0-9]{1,20})?)?", str: "(?s:.*)"}
    for number, row in enumerate(rows, start=2):
        for name, kind in COLUMNS.items():
            if not re.fullmatch(patterns[kind], row[name]):
                found = repr(row[name][:40])
                raise RunError(f"{path}, row {number}: {name} is {found}, no number; delete the file, run again")
    return [{name: _value(kind, row[name]) for name, kind in COLUMNS.items()} for row in rows]


def _value(kind: type, text: str) -> str | float | int | None:
    """A field as it was: a score is 1 or 0.5, and None where the field is empty."""
    if kind is float:
        return None if not text else int(text) if text.isdigit() else float(text)
    return kind(text)
