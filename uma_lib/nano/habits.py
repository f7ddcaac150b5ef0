"""What a policy does, measured against the ground truth: shares of habits in its sessions, skill from a true memory.

A habit is right or wrong in a session that gives occasion for it; shares are over those sessions. The habits are the
demonstrator's (`demonstrator.Habits`), so the shares say which of its variants a policy has kept.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from uma_lib.agents.agent import Setting
from uma_lib.agents.uma import UMA
from uma_lib.engines.policy import Policy
from uma_lib.engines.protocol import Engine
from uma_lib.environment import Limits
from uma_lib.files import atomic_write_json
from uma_lib.ledger import CATEGORIES, MOST_SESSIONS, SIZES, Question, Session
from uma_lib.ledger.dataset import LedgerQA
from uma_lib.ledger.schema import amounts_in, core_total, key_of, true_memory
from uma_lib.parameters import bounded, unknown
from uma_lib.processes import one_writer
from uma_lib.retrieval import MiniLM
from uma_lib.rollout import Context, Trajectory, check_room, held_out, roll_out
from uma_lib.sample import Dataset, Sample

RANGED = ("category_range", "categories_range", "total_range", "top_category_range", "largest_range")


def memory_session_habits(session: Session, stored: dict[str, str], before: str, after: str) -> dict[str, bool]:
    """Right or wrong for every habit that this memory session gave occasion to.

    stored: entries that are new or changed after the session; before, after: the core memory.
    """
    truth: dict[str, Counter[Decimal]] = defaultdict(Counter)
    for e in session.expenses:
        truth[key_of(e)][e.amount] += 1
    planned = {key_of(e) for e in session.mentioned} - set(truth)
    repeated = [key for key, amounts in truth.items() if amounts.total() > 1]
    found = {
        "exact": {key: amounts_in(value) for key, value in stored.items()} == truth,
        "keeps_total": core_total(after) == core_total(before) + sum(e.amount for e in session.expenses),
    }
    if len(truth) > 1:
        found["reads_all"] = set(truth) <= set(stored)
    if session.mentioned:
        # a planned amount counts wherever it was stored, under a wrong category too
        extra = sum((amounts_in(value) or Counter() for value in stored.values()), Counter())
        extra -= sum(truth.values(), Counter())
        found["ignores_plans"] = not planned & set(stored) and not any(e.amount in extra for e in session.mentioned)
    if repeated:
        found["merges"] = all(amounts_in(stored.get(key, "")) == truth[key] for key in repeated)
    return found


def question_session_habits(question: Question, calls: list) -> dict[str, bool]:
    """Right or wrong for the habits of looking things up; ``calls`` are those of the session."""
    lists = [call.arguments for call, _ in calls if call.name == "list"]
    found = {}
    if question.kind in RANGED:
        asked = (question.start, question.end)
        found["ranges"] = bool(lists) and all((c.get("start"), c.get("end")) == asked for c in lists)
    if question.kind in ("categories_range", "top_category_range"):
        needed = question.categories or CATEGORIES
        found["all_categories"] = set(needed) <= {c.get("filter") for c in lists}
    return found


def trajectory_habits(sample: Sample, trajectory: Trajectory) -> list[dict[str, bool]]:
    """Habits of every memory session of one trajectory, read from its traces."""
    habits, core = [], ""
    for session, trace in zip(sample.truth.stream, trajectory.sessions, strict=True):
        stored = trace.diff.added | {key: new for key, (_, new) in trace.diff.changed.items()}
        habits.append(memory_session_habits(session, stored, core, trace.core))
        core = trace.core
    return habits


def habit_shares(contexts: list[Context]) -> dict[str, dict[str, float]]:
    """Share of right variants and number of occasions of every habit, over rolled-out contexts."""
    seen: dict[str, list[bool]] = defaultdict(list)
    for context in contexts:
        questions = context.sample.truth.questions
        for trajectory in context.trajectories:
            found = trajectory_habits(context.sample, trajectory)
            found += [
                question_session_habits(questions[question.id], trace.calls)
                for question, trace in zip(context.sample.questions, trajectory.answers, strict=True)
            ]
            for habits in found:
                for name, right in habits.items():
                    seen[name].append(right)
    return {name: {"share": sum(v) / len(v), "n": len(v)} for name, v in sorted(seen.items())}


def answers_from_truth(
    engine: Engine, contexts: list[Context], limits: Limits, data: Dataset, temperature: float = 1.0
) -> dict[str, dict[str, float]]:
    """Exact match by question kind when the memory is true: what is left is looking up and calculating."""
    asked = []
    for context in contexts:
        agent = UMA(Setting(limits, context.sample.guide, ("truth", context.name), engine.count, engine.size))
        agent.memory = true_memory(context.sample.truth.stream)
        asked += [(agent, question) for question in context.sample.questions]
    played = engine.generate(
        (agent.answer(question.text, question.seed_key) for agent, question in asked), temperature=temperature
    )
    right: dict[str, list[float]] = defaultdict(list)
    for (_, question), trace in zip(asked, played, strict=True):
        right[question.kind].append(data.scores(question, trace.answer)[0].value)
    return {kind: {"share": sum(v) / len(v), "n": len(v)} for kind, v in sorted(right.items())}


def accuracy(contexts: list[Context]) -> dict[str, float]:
    """Exact match over all questions of rolled-out contexts, and by kind."""
    right: dict[str, list[float]] = defaultdict(list)
    for context in contexts:
        for trajectory in context.trajectories:
            for question, outcome in zip(context.sample.questions, trajectory.outcomes, strict=True):
                right["all"].append(outcome)
                right[question.kind].append(outcome)
    return {kind: {"share": sum(v) / len(v), "n": len(v)} for kind, v in sorted(right.items())}


# --- one policy, or two of them, described ------------------------------------------------------------------------


@dataclass(frozen=True)
class AnalysisConfig:
    """What to measure of two policies, on the same held-out streams."""

    before: str = "data/nano"  # model: a folder or a hub name
    after: str = "data/nano-rl"  # the model to compare it with
    size: str = "small"  # of the Ledger-QA sessions: small, standard or hard
    sessions: int = 10  # of a stream
    streams: int = 30  # with one question of each kind
    transcripts: int = 3  # trajectories written out in full
    temperature: float = 1.0  # of sampling; 0 takes the likeliest token
    schema_given: bool = True  # whether the prompts say how to name entries
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of weights and arithmetic
    seed: int = 0  # of sampling
    session_tokens: int = 1024  # budget of a session, its prompt included
    turn_tokens: int = 768  # budget of what is written in one turn
    core_tokens: int = 128  # budget of the core memory
    raw_search: bool = False  # question sessions may search the raw chunks, as in training

    def __post_init__(self) -> None:
        least_one = (1, math.inf)
        bounded(
            self, sessions=(1, MOST_SESSIONS), streams=least_one, transcripts=(0, math.inf), temperature=(0, 100),
            seed=(0, math.inf), session_tokens=least_one, turn_tokens=least_one, core_tokens=least_one,
        )  # fmt: skip
        if self.size not in SIZES:
            raise ValueError(unknown("size", self.size, SIZES))

    @property
    def limits(self) -> Limits:
        return Limits(session_tokens=self.session_tokens, turn_tokens=self.turn_tokens, core_tokens=self.core_tokens)


def data_of(config: AnalysisConfig) -> LedgerQA:
    """The data set of a configuration."""
    return LedgerQA(config.size, config.sessions, schema_given=config.schema_given)


def describe(engine: Engine, config: AnalysisConfig) -> tuple[dict, list[dict]]:
    """Measures of one policy, and some of its trajectories in full."""
    limits, data = config.limits, data_of(config)
    contexts = held_out(data, config.streams)
    roll_out(
        engine, contexts, 1, limits, (config.seed, "analysis"), data=data, kind=UMA,
        temperature=config.temperature, encode=MiniLM() if config.raw_search else None, search=config.raw_search,
    )  # fmt: skip
    measures = {
        "accuracy": accuracy(contexts),
        "habits": habit_shares(contexts),
        "answers_from_truth": answers_from_truth(engine, contexts, limits, data, config.temperature),
    }
    return measures, [transcript_of(context) for context in contexts[: config.transcripts]]


def transcript_of(context: Context) -> dict:
    """The first trajectory of a context, readable: what was read, what was written, how the bank changed."""
    trajectory = context.trajectories[0]
    habits = trajectory_habits(context.sample, trajectory)
    return {
        "stream": context.name,
        "sessions": [
            {"chunk": chunk, "written": trace.said, "diff": str(trace.diff), "core": trace.core, "right": right}
            for chunk, trace, right in zip(context.sample.chunks, trajectory.sessions, habits, strict=True)
        ],
        "questions": [
            {
                "question": question.text,
                "gold": str(question.gold),
                "written": trace.said,
                "answer": trace.answer,
                "right": bool(outcome),
            }
            for question, trace, outcome in zip(
                context.sample.questions, trajectory.answers, trajectory.outcomes, strict=True
            )
        ],
    }


def run(config: AnalysisConfig, out: Path) -> None:
    """Describe both policies; writes ``habits.json`` and ``trajectories.json`` into ``out``."""
    # a lock of its own: the folder may be that of a pipeline or of other results
    with one_writer(out, ".analysis.lock"):
        policies = {name: Policy.load(getattr(config, name), dtype=config.dtype) for name in ("before", "after")}
        for policy in policies.values():
            check_room(policy, data_of(config), config.limits)
        measures, transcripts = {"config": asdict(config)}, {}
        for name, policy in policies.items():
            measures[name], transcripts[name] = describe(policy, config)
        atomic_write_json(out / "habits.json", measures)
        atomic_write_json(out / "trajectories.json", transcripts)
