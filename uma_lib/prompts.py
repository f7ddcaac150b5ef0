"""Every prompt of the project, in two variants that all agents share.

``schema_given=True`` tells what the stream is about and how entries may look; ``schema_given=False`` tells only how to
keep and use a memory. Baselines get the same knowledge in the same variant (method notes, section 7: prompts that know
the benchmark for one agent only are not a comparison).
"""

from __future__ import annotations

import json

_LEDGER = (
    "Purchases belong to Dining, Transportation, Shopping, Entertainment, Utilities, Medical, Education or Other. "
    "Count what the user paid, not plans or what others paid."
)
_VALUES = "Amounts are numbers, dates are YYYY-MM-DD, several dates or categories are joined by a comma."

_MEMORY = {
    True: (
        "You keep the memory of a user's expenses. Store the new session in the memory bank: one entry a date and "
        "category, key 'YYYY-MM-DD Category', value the amounts joined by '+'. " + _LEDGER + " Then call update_core "
        "with the new grand total."
    ),
    False: (
        "You keep a memory of a long stream that you read piece by piece. Later you will be asked about it and see "
        "only this memory. Store what matters in the memory bank, then call update_core with a short summary of "
        "everything so far."
    ),
}
_QUESTION = {
    True: (
        "Answer a question about a user's expenses from memory. Bank entries have the key 'YYYY-MM-DD Category' and as "
        "value the amounts joined by '+'. " + _LEDGER + " Look up what you need, calculate, then call answer with the "
        "value alone. " + _VALUES
    ),
    False: (
        "Answer a question about a long stream that you have read. Look up what you need in memory, think, then call "
        "answer with the value alone. " + _VALUES
    ),
}
_READING = {
    True: (
        "Answer a question about a user's expenses from these sessions. " + _LEDGER + " Calculate, then give the value "
        "alone in \\boxed{}. " + _VALUES
    ),
    False: "Answer a question from these parts of a long stream. Think, then give the value alone in \\boxed{}. "
    + _VALUES,
}


def memory_session(core: str, chunk: str, schema_given: bool) -> list[dict[str, str]]:
    """Phase I: what the policy reads when chunk ``c_k`` arrives (paper section 3)."""
    return [
        {"role": "system", "content": _MEMORY[schema_given]},
        {"role": "user", "content": f"Core memory: {core or '(empty)'}\nNew session:\n{chunk}"},
    ]


def question_session(core: str, question: str, schema_given: bool) -> list[dict[str, str]]:
    """Phase II: what the policy reads when it is asked a question."""
    return [
        {"role": "system", "content": _QUESTION[schema_given]},
        {"role": "user", "content": f"Core memory: {core or '(empty)'}\nQuestion: {question}"},
    ]


def reading(text: str, question: str, schema_given: bool) -> list[dict[str, str]]:
    """Concat and RAG: the raw sessions that fit the budget, the question at the end."""
    return [
        {"role": "system", "content": _READING[schema_given]},
        {"role": "user", "content": f"Sessions:\n{text}\nQuestion: {question}"},
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
