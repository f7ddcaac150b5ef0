"""What an evaluation will take, before it starts: sessions, tokens, time, money.

Agents are played for real over the first sample of each set, with a model that answers at once (`Dry`): so the
prompts are those of the run, and what is written is a guess, `WRITTEN` tokens a turn and one turn a session with
tools. Where the folder holds answers already (of a first look with ``limit``, or of an interrupted run), what these
took counts instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from uma_lib.engines.protocol import Dialogue, Engine, NoModel, Progress, T, Turn
from uma_lib.evaluation import EvaluationConfig, counting_engine, part_name, played, sets_of, specs_of
from uma_lib.files import SessionError
from uma_lib.retrieval import MiniLM
from uma_lib.rollout import Context, Watch, check_room, roll_out
from uma_lib.rows import Journal
from uma_lib.statistics import Row
from uma_lib.tools import render_call

WRITTEN = 150  # tokens of a turn, about
_CALLS = {  # how a session with tools is ended, by a tool that it has
    "update_core": {"text": "so far"}, "answer": {"text": "nothing"}, "memory_insert": {
        "memory_type": "semantic", "content": "something"},
}  # fmt: skip


class Dry(NoModel):
    """A model that answers at once, counted by another one's tokenizer. ``read`` and ``written`` are its tokens."""

    def __init__(self, engine: Engine):
        self.count, self.size, self.context_tokens = engine.count, engine.size, engine.context_tokens
        self.read = self.written = 0

    def generate(
        self, dialogues: Iterable[Dialogue[T]], *, temperature: float = 0.0, progress: Progress = None
    ) -> list[T]:
        return [self._drive(dialogue) for dialogue in dialogues]

    def _drive(self, dialogue: Dialogue[T]) -> T:
        turn, error, asked = None, None, False
        while True:
            try:
                ask = dialogue.throw(error) if error else dialogue.send(turn)
            except StopIteration as end:
                return end.value
            error = None
            size = self.size(ask.messages, ask.tools)
            if size >= min(ask.budget, self.context_tokens):
                error = SessionError(f"a prompt of {size} tokens does not fit")
                continue
            self.read += size
            self.written += min(WRITTEN, ask.max_new)
            asked = asked and not ask.fresh
            turn, asked = Turn(self._said(ask.tools, asked), True, None, size, WRITTEN), True

    @staticmethod
    def _said(tools: list[dict] | None, asked: bool) -> str:
        names = {tool["function"]["name"] for tool in tools or ()}
        call = next((name for name in _CALLS if name in names), None)
        return render_call(call, **_CALLS[call]) if call and not asked else "\\boxed{nothing}"


def estimate(config: EvaluationConfig, out: str | Path | None = None) -> list[Row]:
    """A row each agent and set: sessions and tokens (read, written), seconds and money, of all of it.

    seconds: from the answers in ``out``; None where there are none. money: None without prices. Agents that ask no
    model are left out. Raises RunError for a budget that sessions do not fit.
    """
    engine = counting_engine(config.model, config)
    rows, encode = [], MiniLM()
    for data in sets_of(config, engine.count):
        check_room(engine, data, config.limits)
        samples = [sample for sample in played(data, config) if sample.questions]
        chunks = sum(len(sample.chunks) for sample in samples)
        questions = sum(len(sample.questions) for sample in samples)
        first = samples[0]
        for spec in specs_of(config):
            if spec.model is None:
                continue
            path = Path(out) / "parts" / f"{part_name(spec, data)}.jsonl" if out else None
            found = _measured(Journal(path)) if path and path.exists() else None
            if found is None:
                found = _dry(config, engine, data, replace(first, questions=first.questions[:3]), spec, encode)
            (a, b), (c, d), seconds = found  # each chunk and question takes as many as those that were played
            read, written = chunks * a + questions * c, chunks * b + questions * d
            priced = config.price_read or config.price_written
            rows.append({
                "agent": spec.name, "seed": spec.seed, "set": data.name, "samples": len(samples), "chunks": chunks,
                "questions": questions, "read": round(read), "written": round(written),
                "seconds": None if seconds is None else chunks * seconds[0] + questions * seconds[1],
                "money": (read * config.price_read + written * config.price_written) / 1e6 if priced else None,
                "measured": seconds is not None,
            })  # fmt: skip
    return rows


Found = tuple[tuple[float, float], tuple[float, float], tuple[float, float] | None]
# tokens read and written a chunk, a question; seconds a chunk, a question


def _measured(journal: Journal) -> Found | None:
    rows = [row for row in journal.rows.values() if not row["error"]]
    if not rows:
        return None
    chunks = list(journal.chunks.values())
    tokens, seconds = (sum(values) / len(chunks) for values in zip(*chunks, strict=True)) if chunks else (0.0, 0.0)
    names = ("prompt_tokens", "written_tokens", "seconds")
    read, written, asking = (sum(row[name] for row in rows) / len(rows) for name in names)
    share = written / (read + written) if read + written else 0.0  # of a chunk only the sum is kept
    return (tokens * (1 - share), tokens * share), (read, written), (seconds, asking)


def _dry(config, engine, data, sample, spec, encode) -> Found:
    """By playing a sample without a model, its chunks first."""
    parts = []
    for questions in ((), sample.questions):
        dry = Dry(engine)
        roll_out(
            dry, [Context(sample.id, sample.asking(questions))], 1, config.limits, ("dry",), data=data, kind=spec.kind,
            encode=encode, search=config.raw_search, whole=config.whole, watch=Watch(),
        )  # fmt: skip
        parts.append((dry.read, dry.written))
    (a, b), (c, d) = parts
    chunks, asked = max(1, len(sample.chunks)), max(1, len(sample.questions))
    return (a / chunks, b / chunks), ((c - a) / asked, (d - b) / asked), None
