"""How sessions open, whatever they are about. What a benchmark tells its agents is its `sample.Guide`.

Baselines get the guide of the same data set (method notes, section 7: prompts that know the benchmark for one agent
only are not a comparison).
"""

from __future__ import annotations

import json

from uma_lib.sample import Guide

GENERAL = Guide(
    memory=(
        "You keep a memory of a long stream that you read piece by piece. Later you will be asked about it and see "
        "only this memory. Store what matters in the memory bank, then call update_core with a short summary of "
        "everything so far."
    ),
    question=(
        "Answer a question about a long stream that you have read. Look up what you need in memory, think, then call "
        "answer."
    ),
    reading="Answer a question from these parts of a long stream. Think, then give the answer in \\boxed{}.",
)


def memory_session(core: str, chunk: str, guide: Guide) -> list[dict[str, str]]:
    """Phase I: what the policy reads when chunk ``c_k`` arrives (paper section 3)."""
    return [
        {"role": "system", "content": guide.memory},
        {"role": "user", "content": f"Core memory: {core or '(empty)'}\nNew session:\n{chunk}"},
    ]


def question_session(core: str, question: str, guide: Guide) -> list[dict[str, str]]:
    """Phase II: what the policy reads when it is asked a question."""
    return [
        {"role": "system", "content": guide.question},
        {"role": "user", "content": f"Core memory: {core or '(empty)'}\nQuestion: {question}"},
    ]


def reading(text: str, question: str, guide: Guide) -> list[dict[str, str]]:
    """Concat and RAG: the raw sessions that fit the budget, the question at the end; no text for question only."""
    return [
        {"role": "system", "content": guide.reading},
        {"role": "user", "content": f"Sessions:\n{text or '(none)'}\nQuestion: {question}"},
    ]


def with_tools(messages: list[dict[str, str]], tools: list[dict]) -> list[dict[str, str]]:
    """The messages with the tool schemas in the system message, for chat templates that render no tools."""
    system, *rest = messages
    text = (
        "\n\nTools, one JSON schema a line:\n"
        + "\n".join(json.dumps(tool["function"]) for tool in tools)
        + "\nCall a tool by writing\n<tool_call>\n"
        '{"name": "the tool", "arguments": {"argument": "value"}}\n</tool_call>\n'
        "Several calls may follow each other. You are then shown the results."
    )
    return [{**system, "content": system["content"] + text}, *rest]
