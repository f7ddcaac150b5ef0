"""The agents by name, and what an evaluation needs to know of each."""

from __future__ import annotations

from dataclasses import dataclass

from uma_lib.agents.agent import Kind
from uma_lib.agents.readers import RAG, Concat, QuestionOnly
from uma_lib.agents.uma import UMA
from uma_lib.seeds import Key

KINDS: dict[str, Kind] = {"uma": UMA, "concat": Concat, "rag": RAG, "question_only": QuestionOnly}


@dataclass(frozen=True)
class AgentSpec:
    """An agent of an evaluation. "Before RL" and "after RL" are one kind with two models."""

    name: str  # in rows and figures
    kind: Kind
    model: str | None = None  # a folder or a hub name; None: it asks no model
    informed: bool = False  # it sees golds and truth: an oracle, a script
    seed: int = 0  # number of the checkpoint
    key: Key = ()  # of its randomness; (): (name, seed)
