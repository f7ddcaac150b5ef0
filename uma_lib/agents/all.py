"""The agents by name, and what an evaluation needs to know of each."""

from __future__ import annotations

from dataclasses import dataclass

from uma_lib.agents.a_mem import AMem
from uma_lib.agents.agent import Kind
from uma_lib.agents.mem1 import MEM1
from uma_lib.agents.mem_alpha import MemAlpha
from uma_lib.agents.memagent import MemAgent, MemAgentWithoutQuestion
from uma_lib.agents.readers import RAG, Concat, QuestionOnly, RAGByMeaning, RAGByWords
from uma_lib.agents.uma import UMA
from uma_lib.seeds import Key

KINDS: dict[str, Kind] = {
    "uma": UMA, "concat": Concat, "rag": RAG, "rag_bm25": RAGByWords, "rag_dense": RAGByMeaning, "memagent": MemAgent,
    "memagent_woq": MemAgentWithoutQuestion, "mem1": MEM1, "mem_alpha": MemAlpha, "a_mem": AMem,
    "question_only": QuestionOnly,
}  # fmt: skip


@dataclass(frozen=True)
class AgentSpec:
    """An agent of an evaluation. "Before RL" and "after RL" are one kind with two models."""

    name: str  # in rows and figures
    kind: Kind
    model: str | None = None  # a folder or a hub name; None: it asks no model
    informed: bool = False  # it sees golds and truth: an oracle, a script
    seed: int = 0  # number of the checkpoint
    key: Key = ()  # of its randomness; (): (name, seed)
