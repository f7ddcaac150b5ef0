"""Accuracy of every agent by horizon (sessions in a stream), with intervals.

An evaluation is a folder. It is made of parts, one an agent, checkpoint and horizon; a part's file is written
as a whole when the part is done, so an interrupted evaluation continues with the next part and repeats or
doubles nothing. From the parts come ``answers.csv`` (a row a question) and ``summary.json``, with records:

- ``accuracy``: agent, horizon, kind ("all" or one of the eight), accuracy, its 95 % interval low..high (None
  with fewer than two streams), the accuracy by checkpoint, the numbers of streams, questions and checkpoints;
- ``tolerant``: agent, horizon, kind, accuracy when answers are read as free text (`tolerant.score_tolerant`), and
  the strict one, for the cells in which both differ; chat models say more than the value;
- ``chance``: what the same answer to all questions of a kind would get, the commonest in training streams;
- ``tokens``: tokens a question in the prompt (tool results included), written, and for building the memory,
  shared by the questions that are asked of it.

All language-model agents share the backbone and `Limits`. The memory agents read a stream once and answer all
its questions from the final memory. Concat and RAG use the base model, which was warm-started on reading too;
so does the floor ``question_only``, which is shown nothing of the stream.
"""

from __future__ import annotations

import csv
import io
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from uma_lib.baselines import Passages, Reading, concat_question, rag_question
from uma_lib.engines import load as models
from uma_lib.engines.local import Rollout
from uma_lib.engines.policy import Policy
from uma_lib.environment import Limits
from uma_lib.files import RunError, atomic_write_json, atomic_write_text, model_folder, read_json, read_text
from uma_lib.ledger import CATEGORIES, MOST_SESSIONS, SIZES, SPLITS, Question, Stream
from uma_lib.ledger.testsets import first_streams
from uma_lib.nano.script import Demonstrator, Habits
from uma_lib.parameters import bounded, unknown
from uma_lib.processes import one_writer
from uma_lib.resume import model_inputs
from uma_lib.retrieval import Encoder, MiniLM
from uma_lib.rollout import Context, Tokens, check_room, roll_out
from uma_lib.runs import Run
from uma_lib.scoring import score
from uma_lib.statistics import Row, accuracy_of
from uma_lib.tolerant import score_tolerant

AGENTS = ("uma_base", "concat", "rag", "question_only", "uma_rl", "demonstrator", "oracle")
COLUMNS = {  # of answers.csv
    "agent": str,
    "seed": int,  # number of the checkpoint
    "horizon": int,
    "stream": str,
    "kind": str,
    "question": str,
    "gold": str,
    "answer": str,
    "correct": int,
    "tolerant": int,  # right when read as free text
    "prompt_tokens": int,  # prompt and tool results
    "written_tokens": int,
    "memory_tokens": int,  # read and written to build the memory; the same for all questions of a stream
}
Asked = list[tuple[Stream, list[Question]]]
Progress = Callable[[int, int], None] | None  # (sessions or streams finished, tokens sampled)


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated. Models are folders or names on the hub, as in `files.model_folder`."""

    model: str = "data/nano"  # the base: a folder or a hub name
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
        return Limits(
            session_tokens=self.session_tokens, turn_tokens=self.turn_tokens, core_tokens=self.core_tokens
        )


# --- agents -------------------------------------------------------------------------------------------------


def evaluate(
    agent: str,
    streams: Sequence[Stream],
    config: EvaluationConfig,
    *,
    policy: Policy | None = None,
    encode: Encoder | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> list[Row]:
    """One agent on some streams: a row (see `COLUMNS`) a question.

    Language-model agents need ``policy``, RAG and raw search also ``encode``. ``config`` gives questions,
    prompts, limits and sampling, not models and streams. ``seed`` is the number of the checkpoint; sampling
    depends on it, on ``config.seed`` and on the stream.
    """
    asked = [(stream, stream.questions(config.per_kind)) for stream in streams]
    if agent in ("uma_base", "uma_rl"):
        return _memory_agent(agent, asked, config, policy, encode, seed, progress)
    if agent in ("concat", "rag", "question_only"):
        return _reader(agent, asked, config, policy, encode, progress)
    rows = []
    for number, (stream, questions) in enumerate(asked, start=1):
        if agent == "oracle":  # it reads the ledger, which is where gold answers come from
            answers = [", ".join(question.gold.values) for question in questions]
        else:
            rng = random.Random(f"evaluation/{config.seed}/{stream.name}")
            demonstrator = Demonstrator(Habits(), rng, config.limits)
            memory = demonstrator.keep(stream)
            answers = [demonstrator.ask(memory, question) for question in questions]
        rows += [row_of(agent, stream, q, answer) for q, answer in zip(questions, answers, strict=True)]
        if progress:
            progress(number, 0)
    return rows


def _memory_agent(
    agent: str,
    asked: Asked,
    config: EvaluationConfig,
    policy: Policy,
    encode: Encoder | None,
    seed: int,
    progress: Progress,
) -> list[Row]:
    contexts = [Context(stream.name, stream, questions) for stream, questions in asked]
    roll_out(
        policy, contexts, 1, config.limits, ("evaluation", config.seed, seed), temperature=config.temperature,
        schema_given=config.schema_given, slots=config.slots, progress=progress,
        encode=encode if config.raw_search else None,
    )  # fmt: skip
    rows = []
    for context in contexts:
        read = sum(len(played.tokens.ids) for played in context.trajectories[0].sessions)
        for question, played in zip(context.questions, context.answers[0], strict=True):
            answer = played.session.answer
            rows.append(row_of(agent, context.stream, question, answer, played.tokens, read, seed))
    return rows


def _reader(
    agent: str, asked: Asked, config: EvaluationConfig, policy: Policy, encode: Encoder, progress: Progress
) -> list[Row]:
    def rollouts() -> Iterator[Rollout[Reading]]:
        for stream, questions in asked:
            chunks = [] if agent == "question_only" else [session.text for session in stream]
            passages = Passages(chunks, encode) if agent == "rag" else None
            key = ("evaluation", config.seed, agent, stream.name)
            for question in questions:
                settings = question.text, policy.chat, config.limits, key, config.schema_given
                yield rag_question(passages, *settings) if passages else concat_question(chunks, *settings)

    readings = iter(
        policy.generate(rollouts(), temperature=config.temperature, slots=config.slots, progress=progress)
    )
    rows = []
    for stream, questions in asked:
        for question in questions:
            reading = next(readings)
            rows.append(row_of(agent, stream, question, reading.answer, reading.tokens))
    return rows


def row_of(
    agent: str,
    stream: Stream,
    question: Question,
    answer: str | None,
    tokens: Tokens | None = None,
    memory_tokens: int = 0,
    seed: int = 0,
) -> Row:
    """The row (see `COLUMNS`) of one answer, scored; ``tokens`` are those of its session, None for no model's."""
    tokens = tokens or Tokens()
    said = answer or ""  # no answer is wrong
    return {
        "agent": agent,
        "seed": seed,
        "horizon": len(stream),
        "stream": stream.name,
        "kind": question.kind,
        "question": question.text,
        "gold": ", ".join(question.gold.values),
        "answer": " ".join(said.split()),  # on one line
        "correct": int(score(said, question.gold)),
        "tolerant": int(score_tolerant(said, question.gold, CATEGORIES)),
        "prompt_tokens": len(tokens.ids) - tokens.written,
        "written_tokens": tokens.written,
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
        read, strict = (sum(row[name] for row in cell) / len(cell) for name in ("tolerant", "correct"))
        if read != strict:
            tolerant.append(
                {"agent": agent, "horizon": horizon, "kind": kind, "accuracy": read, "strict": strict}
            )
    return {"accuracy": accuracy, "tokens": tokens, "tolerant": tolerant}


def _tokens(cell: list[Row]) -> Row:
    memories = {(row["seed"], row["stream"]): row["memory_tokens"] for row in cell}
    return {
        "prompt": sum(row["prompt_tokens"] for row in cell) / len(cell),
        "written": sum(row["written_tokens"] for row in cell) / len(cell),
        "memory": sum(memories.values()) / len(cell),
    }


def chance(rows: Sequence[Row], size: str, revisions: float = 0.0) -> list[Row]:
    """Accuracy of constant answers: to each kind of question the commonest one in 50 training streams."""
    asked = {(row["stream"], row["question"]): row for row in rows}.values()  # once, whichever agents answered
    found = []
    for horizon in dict.fromkeys(row["horizon"] for row in asked):
        golds: dict[str, Counter[str]] = defaultdict(Counter)
        for index in range(50):
            for question in Stream(size, "train", horizon, index, revisions).questions():
                golds[question.kind][", ".join(question.gold.values)] += 1
        constant = {kind: counts.most_common(1)[0][0] for kind, counts in golds.items()}
        hits: dict[str, list[bool]] = defaultdict(list)
        for row in asked:
            if row["horizon"] == horizon:
                for kind in ("all", row["kind"]):
                    hits[kind].append(row["gold"] == constant[row["kind"]])
        found += [
            {"horizon": horizon, "kind": kind, "accuracy": sum(hit) / len(hit)} for kind, hit in hits.items()
        ]
    return found


# --- whole evaluations --------------------------------------------------------------------------------------


def run(config: EvaluationConfig, out: Path) -> dict[str, Any]:
    """Evaluate into the folder ``out``, or continue there; returns the summary.

    Raises RunError for a folder that holds an evaluation with other parameters or of other models, for
    models that cannot be loaded, and for files that cannot be written.
    """
    with one_writer(out):
        return _run(config, Path(out))


def _run(config: EvaluationConfig, out: Path) -> dict[str, Any]:
    folder, summary_path = Run(out), out / "summary.json"
    check_models(config, folder)
    folder.start(asdict(config), evaluation_inputs(config))
    if folder.complete:
        return read_json(summary_path)

    folders, of_agent = evaluated_models(config), models_of_agents(config)
    parts = [
        (agent, seed, name, horizon, count)
        for agent in AGENTS  # those of one model after each other
        if agent in config.agents
        for seed, name in enumerate(of_agent[agent])
        for horizon, count in zip(config.horizons, config.streams, strict=True)
    ]
    encode = MiniLM() if "rag" in config.agents or config.raw_search else None
    policy, loaded = None, None
    rows: list[Row] = []
    with tqdm(parts, unit="part", mininterval=1, miniters=0) as bar:

        def progress(done: int, tokens: int) -> None:
            bar.set_postfix_str(f"{done} done, {tokens} tokens", refresh=False)
            bar.update(0)  # drawn at most once a second

        for agent, seed, name, horizon, count in bar:
            path = out / "parts" / f"{agent}-{seed}-{horizon}.csv"
            if not path.exists():
                bar.set_description(f"{agent}, {horizon} sessions", refresh=False)
                if name is not None and name != loaded:
                    policy, loaded = Policy.load(folders.get(name, name)), name
                streams = list(first_streams(config.size, config.split, horizon, count, config.revisions))
                found = evaluate(
                    agent, streams, config, policy=policy, encode=encode, seed=seed, progress=progress
                )
                atomic_write_text(path, _csv(found))
            # always from the file, so that a continued evaluation sees the same
            rows += _part(path, horizon, count)

    atomic_write_text(out / "answers.csv", _csv(rows))
    summary = {"smoke": config.smoke, "config": asdict(config), **summarize(rows)}
    summary["chance"] = chance(rows, config.size, config.revisions)
    atomic_write_json(summary_path, summary)
    folder.close(folders.values(), seed=config.seed)
    return read_json(summary_path)


def check_models(config: EvaluationConfig, folder: Run) -> None:
    """Refuse models that are damaged or that the sessions do not fit, before ``folder`` is begun. Reads no weights."""
    of_agent = models_of_agents(config)
    names = dict.fromkeys(name for agent in config.agents for name in of_agent[agent] if name)
    for name in names if not folder.complete else ():
        policy = Policy(*models.without_weights(name))
        check_room(policy.chat, policy.context_tokens, config.size, config.limits, config.schema_given)


def models_of_agents(config: EvaluationConfig) -> dict[str, tuple[str | None, ...]]:
    """The models that each agent plays with, one a checkpoint; None for an agent without one."""
    of_agent: dict[str, tuple[str | None, ...]] = dict.fromkeys(AGENTS, (config.model,))
    return of_agent | {"uma_rl": config.trained, "demonstrator": (None,), "oracle": (None,)}


def evaluation_inputs(config: EvaluationConfig) -> dict[str, str]:
    """What the models that take part are made of (`model_inputs`)."""
    of_agent = models_of_agents(config)
    names = dict.fromkeys(name for agent in AGENTS if agent in config.agents for name in of_agent[agent])
    return {file: found for name in names if name is not None for file, found in model_inputs(name).items()}


def evaluated_models(config: EvaluationConfig) -> dict[str, Path]:
    """The folders of the models that are not on the hub, by name."""
    found = {name: model_folder(name) for name in (config.model, *config.trained)}
    return {name: folder for name, folder in found.items() if folder}


def read_answers(folder: Path) -> list[Row]:
    """The rows of a complete evaluation; `RunError` where a file is missing or damaged."""
    return _read_part(folder / "answers.csv")


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _part(path: Path, horizon: int, streams: int) -> list[Row]:
    """The rows of one part, which must be all of it."""
    rows = _read_part(path)
    if {row["horizon"] for row in rows} != {horizon} or len({row["stream"] for row in rows}) != streams:
        raise RunError(f"{path}: not the whole part of an evaluation; delete the file and run again")
    return rows


def _read_part(path: Path) -> list[Row]:
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise RunError(f"{path}: not a table ({error}); delete the file and run again") from error
    if rows and list(rows[0]) == [name for name in COLUMNS if name != "tolerant"]:
        raise RunError(f"{path}: has no column tolerant, an older version wrote it; evaluate into a new folder")
    if not rows or any(list(row) != list(COLUMNS) or None in row.values() for row in rows):
        raise RunError(f"{path}: not a part of an evaluation; delete the file and run again")
    for number, row in enumerate(rows, start=2):
        for name, kind in COLUMNS.items():
            if kind is int and not re.fullmatch("[0-9]{1,15}", row[name]):
                found = repr(row[name][:40])
                raise RunError(f"{path}, row {number}: {name} is {found}, no number; delete the file, run again")
    return [{name: kind(row[name]) for name, kind in COLUMNS.items()} for row in rows]
