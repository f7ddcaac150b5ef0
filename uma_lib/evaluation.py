"""Agents on data sets: every question once, whatever happens in between, with intervals and costs.

An evaluation is a folder. Each agent, checkpoint and data set makes a part of it, and a part's file (``parts``) gets a
row a question as soon as that is answered. An interrupted evaluation goes on where it was and doubles nothing: a model
at a server with the next question, with the memory that was saved last; a model on this machine with the block of
samples that was under way, since what it samples depends in the last bits on what is computed beside it. When all is
there, ``answers.csv`` holds a row a question and ``summary.json`` what they come to (see `summary`). A question that
could not be asked, since its prompt was too long or the server refused it, is a row with an error, and is tried again
on request.

With ``traces`` the folder also holds what happened in every session (``traces/*.jsonl.gz``, `read_traces`).

All language-model agents share the backbone, `Limits` and what prompts tell of the stream. The memory agents read a
stream once and answer all its questions from their memory. By default Concat and RAG use the base model, which was
warm-started on reading too; so does the floor ``question_only``, which is shown nothing of the stream.

`run` evaluates the agents and sets of a configuration; it takes other data sets and agents as well:

    >>> config = EvaluationConfig(agents=("oracle",))
    >>> run(config, "out", sets=[MyData()], specs=[AgentSpec("mine", MyAgent)])  # doctest: +SKIP
"""

from __future__ import annotations

import gzip
import json
import math
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from uma_lib.agents.agent import Agent, Kind, Trace
from uma_lib.agents.all import KINDS, AgentSpec
from uma_lib.agents.uma import UMA
from uma_lib.datasets.build import Build, HeldOut
from uma_lib.datasets.sets import SETS, load_set
from uma_lib.engines import load
from uma_lib.engines.open import open_engine
from uma_lib.engines.policy import Policy
from uma_lib.engines.protocol import Engine, NoModel, Progress
from uma_lib.environment import Limits
from uma_lib.files import RunError, atomic_write_bytes, atomic_write_json, is_address, model_folder, read_json
from uma_lib.judge import Judge, agreement, error_rates
from uma_lib.ledger import MOST_SESSIONS, SIZES, SPLITS
from uma_lib.ledger.dataset import LedgerQA
from uma_lib.nano.agents import Oracle, Scripted
from uma_lib.parameters import bounded, unknown
from uma_lib.processes import one_writer
from uma_lib.resume import model_inputs
from uma_lib.retrieval import Encoder, MiniLM
from uma_lib.rollout import Context, Watch, check_room, roll_out
from uma_lib.rows import COLUMNS, Journal, read_table, row_of, write_table
from uma_lib.runs import Run
from uma_lib.sample import Dataset, Question, Sample
from uma_lib.scoring import Score
from uma_lib.statistics import Row
from uma_lib.summary import chance, summarize

__all__ = [
    "AGENTS", "COLUMNS", "EvaluationConfig", "chance", "evaluate", "merge", "read_answers", "read_traces", "row_of",
    "run", "sets_of", "specs_of", "summarize",
]  # fmt: skip

LEDGER = "ledger-qa"  # the set of our own streams, one for each of horizons
OF_LEDGER = ("uma_base", "concat", "rag", "question_only", "uma_rl", "demonstrator", "oracle")
AGENTS = (*OF_LEDGER, "rag_bm25", "rag_dense", "memagent", "memagent_woq", "mem1", "mem_alpha", "a_mem")
FREE_TEXT = ("text", "keywords", "rubric")  # golds that a judge scores where there is one
SAVE_EVERY = 5  # chunks, after which a memory kept by a model at a server is saved: what a kill may cost
# parameters that change nothing about the answers: a run may go on with others
FREE = ("parallel", "patience", "key_variable", "price_read", "price_written", "data", "judge", "audit")


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated. Models are folders, names on the hub or servers, as in `engines.open`."""

    model: str = "data/nano"  # the base: a folder, a hub name, or a server, http://host:8000/v1#name
    trained: tuple[str, ...] = ()  # models after reinforcement learning, one a training seed
    agents: tuple[str, ...] = OF_LEDGER  # who is evaluated
    sets: tuple[str, ...] = (LEDGER,)  # data sets: ledger-qa, and those of uma sets
    # Ledger-QA
    horizons: tuple[int, ...] = (2, 5, 10, 20, 50)  # sessions in a stream
    streams: tuple[int, ...] = (60, 60, 60, 60, 60)  # how many, for each horizon
    split: str = "test"  # of the benchmark: validation is for choosing, test for reporting
    size: str = "small"  # of the Ledger-QA sessions: small, standard or hard
    revisions: float = 0.0  # above 0: streams of the track ledger-qa-revised, as many revisions for each purchase
    per_kind: int = 1  # questions of each kind a stream
    # other sets
    data: str = ""  # the folder that they lie in, each in one of its name; those that are not there: from the hub
    chunk_tokens: int = 1024  # of a chunk, at most; longer sessions are split
    samples: int = 0  # of a set, at most; 0: as many as the paper has
    questions: int = 0  # of a sample, at most; 0: as many as the paper has
    stream_tokens: int = 0  # of a stream of labelled sentences; 0: as in the paper
    set_seed: int = 0  # of what is drawn to build them
    # all of them
    limit: int = 0  # questions of a set, at most, for a first look; 0: all
    schema_given: bool = True  # whether the prompts say what the stream is about, and how to name entries
    temperature: float = 1.0  # of sampling; 0 takes the likeliest token
    seed: int = 0  # of sampling
    session_tokens: int = 1024  # budget of a session, its prompt included; as in training
    turn_tokens: int = 768  # budget of what is written in one turn
    core_tokens: int = 128  # budget of the core memory
    raw_search: bool = False  # question sessions of the memory agents may search the raw chunks
    whole: bool = True  # readers show whole chunks and passages; false: text that is too long is cut to the token
    # a model on this machine
    slots: int = 64  # sessions decoded together
    block: int = 64  # samples played together; what is repeated after a kill
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of weights and arithmetic
    device: str = ""  # such as cuda or cpu; empty: the GPU if there is one
    thinking: Literal["default", "on", "off"] = "default"  # where the model's template can
    # a model at a server
    parallel: int = 8  # requests at the same time
    native_tools: bool = True  # send tools=; else describe them in the prompt
    context_tokens: int = 32_768  # that the server's model can read
    tokenizer: str = ""  # a folder with tokenizer.json to count by; empty: by bytes, about
    key_variable: str = ""  # environment variable that holds the API key
    patience: float = 600.0  # seconds to go on with a request that fails for a passing reason
    judge: str = ""  # a server with a model that judges free text, http://host:8000/v1#name; empty: exact scores alone
    audit: int = 0  # questions on whose planted answers the judge is tried
    price_read: float = 0.0  # of a million tokens read, in any currency
    price_written: float = 0.0  # of a million tokens written
    # what is kept
    traces: bool = False  # keep what happened in every session
    smoke: bool = False  # marks the results as those of a short trial; figures say so

    def __post_init__(self) -> None:
        if not set(self.agents) <= set(AGENTS):
            raise ValueError(f"agents must be of {', '.join(AGENTS)}, not {', '.join(self.agents)}")
        if "uma_rl" in self.agents and not self.trained:
            raise ValueError("uma_rl needs checkpoints: name them in trained, or leave it out of agents")
        for name in self.sets:
            if name.partition(":")[0] not in (LEDGER, *SETS):
                raise ValueError(unknown("data set", name, (LEDGER, *SETS)))
        if "demonstrator" in self.agents and self.sets != (LEDGER,):
            raise ValueError("the demonstrator knows Ledger-QA alone: leave it out of agents, or the other sets out")
        for name, known in (("split", SPLITS), ("size", SIZES)):
            if getattr(self, name) not in known:
                raise ValueError(unknown(name, getattr(self, name), known))
        least_one, least_none = (1, math.inf), (0, math.inf)
        bounded(
            self, revisions=(0, 1), horizons=(1, MOST_SESSIONS), streams=least_one, per_kind=(1, 1000), slots=(1, 4096),
            temperature=(0, 100), seed=least_none, session_tokens=least_one, turn_tokens=least_one, limit=least_none,
            core_tokens=least_one, chunk_tokens=(16, math.inf), samples=least_none, questions=least_none,
            stream_tokens=least_none, set_seed=least_none, block=least_one, parallel=least_one, patience=least_none,
            context_tokens=least_one, price_read=least_none, price_written=least_none, audit=least_none,
        )  # fmt: skip
        if not self.agents or not self.horizons or not self.sets:
            raise ValueError("agents, sets and horizons must not be empty")
        if len(self.streams) != len(self.horizons):
            raise ValueError(f"streams has {len(self.streams)} numbers: give one for each of {self.horizons}")
        for name in ("agents", "sets", "horizons", "trained"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names something twice: {', '.join(map(str, values))}")

    @property
    def limits(self) -> Limits:
        """What one session may use, whoever plays it."""
        return Limits(session_tokens=self.session_tokens, turn_tokens=self.turn_tokens, core_tokens=self.core_tokens)

    @property
    def kept(self) -> dict[str, Any]:
        """The parameters that the answers depend on; of a server only the name of its model."""
        found = {name: value for name, value in asdict(self).items() if name not in FREE}
        return found | {"model": _named(self.model), "trained": tuple(map(_named, self.trained))}


def _named(model: str) -> str:
    return f"server#{model.partition('#')[2]}" if is_address(model) else model


# --- agents and sets ------------------------------------------------------------------------------------------


def specs_of(config: EvaluationConfig) -> list[AgentSpec]:
    """The agents of a configuration, one a checkpoint; those of one model after each other."""
    base, nobody = (config.model,), (None,)
    # kind, models, whether it sees golds, and what of it is in the key of its randomness
    table: dict[str, tuple[Kind, Sequence[str | None], bool, Sequence[str]]] = {
        "uma_base": (UMA, base, False, ["seed"]),
        **{name: (kind, base, False, ["name"]) for name, kind in KINDS.items() if name != "uma"},
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


def sets_of(config: EvaluationConfig, count: Callable[[str], int] | None = None) -> list[Dataset]:
    """The data sets of a configuration; of Ledger-QA one a horizon. count: tokens of a text, by the model in use."""
    build = Build(
        **({"count": count} if count else {}), chunk_tokens=config.chunk_tokens, schema_given=config.schema_given,
        seed=config.set_seed, samples=config.samples or None, questions=config.questions or None,
        stream_tokens=config.stream_tokens or None,
    )  # fmt: skip
    found: list[Dataset] = []
    for name in config.sets:
        if name == LEDGER:
            found += [
                LedgerQA(config.size, horizon, count, config.revisions, config.per_kind, config.schema_given)
                for horizon, count in zip(config.horizons, config.streams, strict=True)
            ]
        else:
            found.append(load_set(name, config.data, build))
    return found


def engine_of(name: str, config: EvaluationConfig) -> Engine:
    """The engine of a model."""
    return open_engine(
        name, dtype=config.dtype, device=config.device, slots=config.slots,
        thinking={"on": True, "off": False}.get(config.thinking), server={
            "parallel": config.parallel, "native_tools": config.native_tools, "context_tokens": config.context_tokens,
            "tokenizer": config.tokenizer or None, "key_variable": config.key_variable or None,
            "patience": config.patience,
        },
    )  # fmt: skip


def played(data: Dataset, config: EvaluationConfig) -> list[Sample]:
    """The samples of a set, with as many questions as ``limit`` allows."""
    split = config.split if config.split in getattr(data, "splits", (config.split,)) else "test"
    found: list[Sample] = []
    left = config.limit or math.inf
    for sample in data.samples(split):
        found.append(sample if len(sample.questions) <= left else sample.asking(sample.questions[: int(left)]))
        left -= len(found[-1].questions)
        if left <= 0:
            break
    if not any(sample.questions for sample in found):
        raise RunError(f"the data set {data.name} asks nothing in the split {split}; leave it out")
    return found


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
        search=config.raw_search, whole=config.whole,
    )  # fmt: skip
    rows = []
    for context in contexts:
        (trajectory,) = context.trajectories
        memory = sum(sum(trace.cost) for trace in trajectory.sessions)
        for question, trace, scores in zip(
            context.sample.questions, trajectory.answers, trajectory.scores, strict=True
        ):
            rows.append(row_of(spec, context.sample, question, trace, scores, memory, data.name))
    return rows, contexts


# --- whole evaluations ----------------------------------------------------------------------------------------


def run(
    config: EvaluationConfig,
    out: str | Path,
    sets: Sequence[Dataset] | None = None,
    specs: Sequence[AgentSpec] | None = None,
    *,
    retry: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> dict[str, Any]:
    """Evaluate into the folder ``out``, or continue there; returns the summary.

    sets, specs: data sets, of whose split ``config.split`` every sample is played, and agents; by default those of the
    configuration. retry: ask again what failed. shard: (k, n) plays every n-th block of samples from the k-th on, as
    one of n machines does; then there is no summary ({}) before `merge`.

    Raises RunError for a folder that holds an evaluation with other parameters or of other models, for
    models that cannot be loaded, and for files that cannot be written.
    """
    given = {} if sets is None else {"sets": ", ".join(data.name for data in sets)}
    given |= {} if specs is None else {"specs": ", ".join(f"{spec.name} {spec.model or ''}".strip() for spec in specs)}
    specs = specs_of(config) if specs is None else specs
    with one_writer(out):
        if sets is None:
            sets = sets_of(config, None if config.sets == (LEDGER,) else counting_engine(config.model, config).count)
        return _Evaluation(config, Path(out), sets, specs, given).run(retry, shard)


def merge(config: EvaluationConfig, folders: Sequence[str | Path], out: str | Path) -> dict[str, Any]:
    """Put the shards of one evaluation together into ``out`` and return the summary; what is missing is played.

    Raises RunError for a folder with other parameters or inputs.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    inputs: dict[str, Any] = {}
    for folder in map(Path, folders):
        params, wanted = read_json(folder / "params.json"), json.loads(json.dumps(config.kept))
        if different := [name for name in wanted if params.get(name) != wanted[name]]:
            name = different[0]
            raise RunError(f"{folder}: {name} is {params.get(name)!r} there, not {wanted[name]!r}")
        here = read_json(folder / "inputs.json")
        if inputs and here != inputs:
            raise RunError(f"{folder}: its models or data are others than those of {folders[0]}; evaluate it anew")
        inputs = here
        for path in sorted((folder / "parts").glob("*.jsonl")):
            found.setdefault(path.name, []).extend(Journal(path).records())
        for path in sorted((folder / "traces").glob("*.jsonl")):
            target = Path(out) / "traces" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "ab") as file:
                file.write(path.read_bytes())
    with one_writer(out):
        Run(Path(out)).start(config.kept, inputs)
        for name, records in found.items():
            journal = Journal(Path(out) / "parts" / name)
            journal.add(record for record in records if not journal.holds(record))
            journal.close()
    return run(config, out)


class _Evaluation:
    """A folder in which an evaluation is made."""

    def __init__(
        self, config: EvaluationConfig, out: Path, sets: Sequence[Dataset], specs: Sequence[AgentSpec],
        given: dict[str, str],
    ):  # fmt: skip
        names = Counter(part_name(spec, data) for spec in specs for data in sets)
        if twice := [name for name, count in names.items() if count > 1]:
            raise RunError(
                f"two parts are called {twice[0]}: give agents (or their seed) and data sets names of their own"
            )
        self.config, self.out, self.sets, self.specs, self.given = config, out, sets, specs, given
        self.folder = Run(out)
        self.encode = MiniLM()  # reads no weights before the first search by meaning
        self.samples: dict[str, list[Sample]] = {}  # of each set
        self.engine: tuple[str, Engine] | None = None

    def run(self, retry: bool, shard: tuple[int, int]) -> dict[str, Any]:
        config, out = self.config, self.out
        models = list(dict.fromkeys(spec.model for spec in self.specs if spec.model))
        check_models(config, self.folder, self.sets, models)
        self.samples = {data.name: played(data, config) for data in self.sets}
        read = dict(pair for data in self.sets if isinstance(data, HeldOut) for pair in data.source.read.items())
        self.folder.start(config.kept, inputs_of(models) | self.given | read)
        if self.folder.complete and not retry and (held := read_json(out / "summary.json"))["judge"] == self.judge:
            return held
        self.folder.manifest_path.unlink(missing_ok=True)
        parts = [_Part(self, spec, data, retry) for spec in self.specs for data in self.sets]
        number = 0
        with tqdm(total=sum(part.sessions for part in parts), unit="session", mininterval=1, miniters=0) as bar:
            bar.update(sum(part.sessions - part.left for part in parts))
            for part in parts:
                for block in part.blocks:
                    if number % shard[1] == shard[0]:
                        bar.set_description(f"{part.spec.name}, {part.data.name}", refresh=False)
                        part.play(block, bar)
                    number += 1
        if any(part.left for part in parts):
            return {}
        rows = [row for part in parts for row in part.rows()]
        for part in parts:
            part.finish()
        if config.judge:
            atomic_write_json(out / "judge.json", self._judged(rows))
        write_table(out / "answers.csv", rows)
        summary = {"smoke": config.smoke, "config": asdict(config), "judge": self.judge, **summarize(rows)}
        summary["chance"] = chance(rows, self.sets)
        atomic_write_json(out / "summary.json", summary)
        if not any(row["error"] for row in rows):
            shutil.rmtree(out / "memories", ignore_errors=True)
        self.folder.close(folders_of(models).values(), seed=config.seed, **({"data": read} if read else {}))
        return read_json(out / "summary.json")

    @property
    def judge(self) -> str:
        """What the summary was judged with."""
        return f"{_named(self.config.judge)}, {self.config.audit}" if self.config.judge else ""

    def _judged(self, rows: list[Row]) -> dict[str, Any]:
        """Give free text its judged score, which becomes the first of its set; returns how far to trust the judge."""
        config = self.config
        judge = Judge(config.judge, self.out / "judge", config.key_variable, config.patience)
        asked = {q.id: q for samples in self.samples.values() for sample in samples for q in sample.questions}
        open_ones = [row for row in rows if not row["error"] and asked[row["id"]].gold.kind in FREE_TEXT]
        cases = [(asked[row["id"]].text, asked[row["id"]].gold, row["answer"], row["kind"]) for row in open_ones]
        compared: dict[str, list[Row]] = {}
        for row, score in zip(open_ones, judge.all(cases, config.parallel), strict=True):
            scores = json.loads(row["scores"])
            compared.setdefault(row["set"], []).append({
                **{name: row[name] for name in ("agent", "seed", "id", "question", "gold", "answer")},
                "exact": scores.get("exact"), "judge": score.value, "note": score.note,
            })  # fmt: skip
            row["correct"], row["scores"] = score.value, json.dumps(scores | {"judge": score.value})
        found: dict[str, Any] = {
            "judge": _named(config.judge),
            "answers": len(open_ones),
            "unjudged": sum(one["judge"] is None for of_set in compared.values() for one in of_set),
            "agreement": {name: agreement(of_set) for name, of_set in compared.items()},
        }
        if config.audit and cases:
            first = list({case[0]: (case[0], case[1], case[3]) for case in cases}.values())[: config.audit]
            found["planted"] = error_rates(judge, first, config.parallel)
        return found

    def engine_of(self, spec: AgentSpec) -> Engine | None:
        if spec.model is None:
            return None
        if self.engine is None or self.engine[0] != spec.model:
            self.engine = None  # the old model goes first
            folder = folders_of([spec.model]).get(spec.model, spec.model)
            self.engine = spec.model, engine_of(str(folder), self.config)
        return self.engine[1]


class _Part(Watch):
    """One agent on one set: what of it is done, and what is still to do."""

    def __init__(self, whole: _Evaluation, spec: AgentSpec, data: Dataset, retry: bool):
        self.whole, self.spec, self.data, self.config = whole, spec, data, whole.config
        self.name = part_name(spec, data)
        self.journal = Journal(whole.out / "parts" / f"{self.name}.jsonl")
        self.traces = TraceLog(whole.out / "traces" / f"{self.name}.jsonl") if self.config.traces else None
        self.samples = [sample for sample in whole.samples[data.name] if sample.questions]
        size = self.config.block
        self.blocks = [self.samples[k : k + size] for k in range(0, len(self.samples), size)]
        self.at_server = spec.model is not None and is_address(spec.model)
        self.journal.keep([sample.id for block in self.blocks for sample in block if self._kept(block)], retry)
        self.bar: tqdm | None = None
        self.playing: dict[str, tuple[Sample, Agent, int]] = {}  # memories at a server, and the chunks they have read
        self.waiting: list[dict[str, Any]] = []  # records of the block under way

    def _kept(self, block: Sequence[Sample]) -> bool:
        return self.at_server or all(question.id in self.journal.rows for s in block for question in s.questions)

    @property
    def sessions(self) -> int:
        """Of chunks and questions, all of them."""
        return sum(len(sample.chunks) + len(sample.questions) for sample in self.samples)

    @property
    def left(self) -> int:
        """Sessions that are still to be played."""
        return sum(
            sum((s.id, k) not in self.journal.chunks for k in range(len(s.chunks))) * self._owed(s)
            + sum(question.id not in self.journal.rows for question in s.questions)
            for s in self.samples
        )

    def _owed(self, sample: Sample) -> bool:
        return any(question.id not in self.journal.rows for question in sample.questions)

    def play(self, block: Sequence[Sample], bar: tqdm) -> None:
        """Play what is owed of a block."""
        owed = [sample for sample in block if self._owed(sample)]
        if not owed:
            return
        config, spec, self.bar, self.waiting = self.config, self.spec, bar, []

        def progress(done: int, tokens: int) -> None:
            bar.set_postfix_str(f"{tokens} tokens", refresh=False)
            bar.update(0)  # drawn at most once a second

        try:
            roll_out(
                self.whole.engine_of(spec) or NoModel(), [Context(sample.id, sample) for sample in owed], 1,
                config.limits, spec.key or (spec.name, spec.seed), data=self.data, kind=spec.kind,
                informed=spec.informed, temperature=config.temperature, progress=progress, encode=self.whole.encode,
                search=config.raw_search, whole=config.whole, watch=self,
            )  # fmt: skip
            self.journal.add(self.waiting)
        except BaseException:
            for sample, agent, after in self.playing.values():  # a session that fails leaves its memory as it was
                self._save(sample, agent, after)
            raise
        finally:
            self.journal.close()
            self.playing = {}
        asked = [self.journal.rows[question.id] for sample in owed for question in sample.questions]
        if all(row["error"] for row in asked):
            raise RunError(
                f"{spec.name} could not be asked one of {len(asked)} questions of {self.data.name}: {asked[0]['error']}"
            )
        for sample in owed:
            if not any(self.journal.rows[question.id]["error"] for question in sample.questions):
                shutil.rmtree(self._memory(sample), ignore_errors=True)

    # what `roll_out` tells

    def begin(self, context: Context, agent: Agent) -> int:
        if not self.at_server:
            return 0
        saved = [int(path.name) for path in self._memory(context.sample).glob("*") if path.name.isdecimal()]
        if saved:
            agent.load(self._memory(context.sample) / str(max(saved)))
        return max(saved, default=0)

    def wanted(self, context: Context, question: Question) -> bool:
        return question.id not in self.journal.rows

    def read(self, context: Context, agent: Agent, chunk: int, trace: Trace) -> None:
        if not trace.error:
            seconds = sum(one.seconds for one in trace.sessions)
            self._keep({"stream": context.sample.id, "chunk": chunk, "tokens": sum(trace.cost), "seconds": seconds})
            after, last = chunk + 1, len(context.sample.chunks)
            if self.at_server:
                self.playing[context.sample.id] = context.sample, agent, after
                if after % SAVE_EVERY == 0 or after == last:
                    self._save(context.sample, agent, after)
        self._log({"sample": context.sample.id, "chunk": chunk}, trace)

    def answered(self, context: Context, question: Question, trace: Trace, scores: tuple[Score, ...]) -> None:
        self._keep(row_of(self.spec, context.sample, question, trace, scores, name=self.data.name))
        self._log({"sample": context.sample.id, "id": question.id}, trace)

    def _keep(self, record: dict[str, Any]) -> None:
        if self.at_server:
            self.journal.add([record])
        else:
            self.waiting.append(record)
        self.bar.update(1)

    def _log(self, place: dict[str, Any], trace: Trace) -> None:
        if self.traces is not None:
            self.traces.add(place | {"trace": trace.to_json()})

    def _memory(self, sample: Sample) -> Path:
        """Where the memory over a sample is saved, each time in a folder named by the chunks that were read."""
        return self.whole.out / "memories" / self.name / sha256(sample.id.encode()).hexdigest()[:16]

    def _save(self, sample: Sample, agent: Agent, after: int) -> None:
        place = self._memory(sample)
        if (place / str(after)).exists():
            return
        shutil.rmtree(place / "new", ignore_errors=True)
        agent.save(place / "new")
        older = [path for path in place.glob("*") if path.name.isdecimal()]
        (place / "new").rename(place / str(after))
        for path in older:
            shutil.rmtree(path, ignore_errors=True)

    # when all is there

    def rows(self) -> list[Row]:
        return self.journal.table(self.samples)

    def finish(self) -> None:
        if self.traces is not None:
            self.traces.pack(self.samples)


def part_name(spec: AgentSpec, data: Dataset) -> str:
    """The name of the files of one part: agent, checkpoint, and what of the data set's name is fit for a file."""
    return f"{spec.name}-{spec.seed}-{re.sub(r'[^0-9A-Za-z.@_-]+', '-', data.name)}"


def counting_engine(name: str, config: EvaluationConfig) -> Engine:
    """The engine of a model that counts tokens, and no more."""
    return engine_of(name, config) if is_address(name) else Policy(*load.without_weights(name))


def check_models(config: EvaluationConfig, folder: Run, sets: Sequence[Dataset], models: Sequence[str]) -> None:
    """Refuse models that are damaged or that the sessions do not fit, before ``folder`` is begun. Reads no weights."""
    some = {type(data): data for data in reversed(sets)}  # sessions of one kind of set are alike
    for name in models if not folder.complete else ():
        engine = counting_engine(name, config)
        for data in some.values():
            check_room(engine, data, config.limits)


def inputs_of(models: Sequence[str]) -> dict[str, str]:
    """What the models that take part are made of (`model_inputs`); of one at a server only its name is known."""
    local = [name for name in models if not is_address(name)]
    found = {file: digest for name in local for file, digest in model_inputs(name).items()}
    return found | {_named(name): "at a server" for name in models if is_address(name)}


def folders_of(models: Sequence[str]) -> dict[str, Path]:
    """The folders of the models that are not on the hub, by name."""
    found = {name: model_folder(name) for name in models if not is_address(name)}
    return {name: folder for name, folder in found.items() if folder}


# --- files --------------------------------------------------------------------------------------------------


class TraceLog:
    """The traces of a part while it is played, a line a session; `pack` makes the file that `read_traces` reads."""

    def __init__(self, path: Path):
        self.path = path
        self._file = None

    def add(self, record: dict[str, Any]) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a", encoding="utf-8")
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()

    def pack(self, samples: Sequence[Sample]) -> None:
        """One line a sample: its id, and the traces of all its sessions; of a session that was repeated the last."""
        if self._file is not None:
            self._file.close()
        if not self.path.exists():
            return  # packed already
        chunks: dict[str, dict[int, Any]] = {}
        answers: dict[str, dict[str, Any]] = {}
        with open(self.path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.endswith("}\n"):
                    continue  # a kill has cut it; it was played again
                found = json.loads(line)
                place = chunks if "chunk" in found else answers
                place.setdefault(found["sample"], {})[found.get("chunk", found.get("id"))] = found["trace"]
        lines = [
            json.dumps({
                "sample": sample.id,
                "sessions": [trace for _, trace in sorted(chunks.get(sample.id, {}).items())],
                "answers": {q.id: answers[sample.id][q.id] for q in sample.questions},
            }, ensure_ascii=False)
            for sample in samples
        ]  # fmt: skip
        text = "".join(line + "\n" for line in lines)
        atomic_write_bytes(self.path.with_name(f"{self.path.name}.gz"), gzip.compress(text.encode(), mtime=0))
        self.path.unlink()


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
    return read_table(folder / "answers.csv")
