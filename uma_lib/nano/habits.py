"""What a policy does, measured against the ground truth: shares of habits in its sessions, skill from a true memory.

A habit is right or wrong in a session that gives occasion for it; shares are over those sessions. The habits are the
demonstrator's (`demonstrator.Habits`), so the shares say which of its variants a policy has kept.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from uma_lib.engines.policy import Policy
from uma_lib.environment import Limits
from uma_lib.files import atomic_write_json
from uma_lib.ledger import CATEGORIES, MOST_SESSIONS, SIZES, Question, Session
from uma_lib.nano.demonstrations import true_memory
from uma_lib.nano.script import core_total
from uma_lib.parameters import bounded, unknown
from uma_lib.processes import one_writer
from uma_lib.retrieval import MiniLM
from uma_lib.rollout import Context, Played, Trajectory, ask_question, check_room, held_out_contexts, roll_out
from uma_lib.scoring import score

_PART = re.compile(r" *([0-9]+(?:\.[0-9]+)?)(?: [^0-9+]+)? *")  # of an entry: "12", "12.50 coffee"
RANGED = ("category_range", "categories_range", "total_range", "top_category_range", "largest_range")


def amounts_in(value: str) -> Counter[Decimal] | None:
    """The amounts of a bank entry as a multiset; None if it is written in another way.

    >>> amounts_in("12+7") == amounts_in("12 coffee + 7 a taxi") == Counter([Decimal(12), Decimal(7)])
    True
    """
    parts = [_PART.fullmatch(part) for part in value.split("+")]
    return Counter(Decimal(part[1]) for part in parts) if all(parts) else None


def memory_session_habits(session: Session, stored: dict[str, str], before: str, after: str) -> dict[str, bool]:
    """Right or wrong for every habit that this memory session gave occasion to.

    stored: entries that are new or changed after the session; before, after: the core memory.
    """
    truth: dict[str, Counter[Decimal]] = defaultdict(Counter)
    for e in session.expenses:
        truth[f"{e.date} {e.category}"][e.amount] += 1
    planned = {f"{e.date} {e.category}" for e in session.mentioned} - set(truth)
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


def trajectory_habits(context: Context, trajectory: Trajectory) -> list[dict[str, bool]]:
    """Habits of every memory session of one trajectory."""
    habits = []
    versions, cores = [0, *trajectory.versions], ["", *trajectory.cores]
    for k, session in enumerate(context.stream):
        diff = trajectory.memory.bank.diff(versions[k], versions[k + 1])
        stored = diff.added | {key: new for key, (_, new) in diff.changed.items()}
        habits.append(memory_session_habits(session, stored, cores[k], cores[k + 1]))
    return habits


def habit_shares(contexts: list[Context]) -> dict[str, dict[str, float]]:
    """Share of right variants and number of occasions of every habit, over rolled-out contexts."""
    seen: dict[str, list[bool]] = defaultdict(list)
    for context in contexts:
        for trajectory, answers in zip(context.trajectories, context.answers, strict=True):
            found = trajectory_habits(context, trajectory)
            found += [
                question_session_habits(question, played.session.calls)
                for question, played in zip(context.questions, answers, strict=True)
            ]
            for habits in found:
                for name, right in habits.items():
                    seen[name].append(right)
    return {name: {"share": sum(v) / len(v), "n": len(v)} for name, v in sorted(seen.items())}


def answers_from_truth(
    policy: Policy, contexts: list[Context], limits: Limits, temperature: float = 1.0, schema_given: bool = True
) -> dict[str, dict[str, float]]:
    """Exact match by question kind when the memory is true: what is left is looking up and calculating."""
    asked = [(c, true_memory(c.stream), q) for c in contexts for q in c.questions]
    played = policy.generate(
        (
            ask_question(
                memory, q.text, policy.chat, limits, ("truth", c.name), schema_given,
                scenes=c.stream.size.asks_scenes,
            )
            for c, memory, q in asked
        ),
        temperature=temperature,
    )
    right: dict[str, list[float]] = defaultdict(list)
    for (_, _, question), one in zip(asked, played, strict=True):
        right[question.kind].append(score(one.session.answer or "", question.gold))
    return {kind: {"share": sum(v) / len(v), "n": len(v)} for kind, v in sorted(right.items())}


def accuracy(contexts: list[Context]) -> dict[str, float]:
    """Exact match over all questions of rolled-out contexts, and by kind."""
    right: dict[str, list[float]] = defaultdict(list)
    for context in contexts:
        for i in range(len(context.trajectories)):
            for question, outcome in zip(context.questions, context.outcomes(i), strict=True):
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


def describe(policy: Policy, config: AnalysisConfig) -> tuple[dict, list[dict]]:
    """Measures of one policy, and some of its trajectories in full."""
    limits = config.limits
    contexts = held_out_contexts(config.size, config.sessions, config.streams)
    roll_out(
        policy, contexts, 1, limits, (config.seed, "analysis"),
        temperature=config.temperature, schema_given=config.schema_given,
        encode=MiniLM() if config.raw_search else None,
    )  # fmt: skip
    measures = {
        "accuracy": accuracy(contexts),
        "habits": habit_shares(contexts),
        "answers_from_truth": answers_from_truth(policy, contexts, limits, config.temperature, config.schema_given),
    }
    return measures, [transcript_of(policy, context) for context in contexts[: config.transcripts]]


def transcript_of(policy: Policy, context: Context) -> dict:
    """The first trajectory of a context, readable: what was read, what was written, how the bank changed."""
    trajectory = context.trajectories[0]
    versions = [0, *trajectory.versions]
    return {
        "stream": context.name,
        "sessions": [
            {
                "chunk": session.text,
                "written": _written(policy, played),
                "diff": str(trajectory.memory.bank.diff(versions[k], versions[k + 1])),
                "core": trajectory.cores[k],
                "right": trajectory_habits(context, trajectory)[k],
            }
            for k, (session, played) in enumerate(zip(context.stream, trajectory.sessions, strict=True))
        ],
        "questions": [
            {
                "question": question.text,
                "gold": ", ".join(question.gold.values),
                "written": _written(policy, played),
                "answer": played.session.answer,
                "right": bool(outcome),
            }
            for question, played, outcome in zip(
                context.questions, context.answers[0], context.outcomes(0), strict=True
            )
        ],
    }


def _written(policy: Policy, played: Played) -> str:
    """Everything after the prompt: the policy's turns, with tool results between them."""
    first = played.tokens.sampled.index(True) if True in played.tokens.sampled else len(played.tokens.ids)
    return policy.chat.decode(played.tokens.ids[first:])


def run(config: AnalysisConfig, out: Path) -> None:
    """Describe both policies; writes ``habits.json`` and ``trajectories.json`` into ``out``."""
    # a lock of its own: the folder may be that of a pipeline or of other results
    with one_writer(out, ".analysis.lock"):
        policies = {name: Policy.load(getattr(config, name), dtype=config.dtype) for name in ("before", "after")}
        for policy in policies.values():
            check_room(policy.chat, policy.context_tokens, config.size, config.limits, config.schema_given)
        measures, transcripts = {"config": asdict(config)}, {}
        for name, policy in policies.items():
            measures[name], transcripts[name] = describe(policy, config)
        atomic_write_json(out / "habits.json", measures)
        atomic_write_json(out / "trajectories.json", transcripts)
