"""Every prompt of the project, in two variants that all agents share.

``schema_given=True`` tells what the stream is about and how entries may look; ``schema_given=False`` tells only how to
keep and use a memory. Baselines get the same knowledge in the same variant (method notes, section 7: prompts that know
the benchmark for one agent only are not a comparison). Where questions are about scenes ("the coffee"), ``scenes=True``
gives entries a place for them.
"""

from __future__ import annotations

import json

_LEDGER = (
    "Purchases belong to Dining, Transportation, Shopping, Entertainment, Utilities, Medical, Education or Other. "
    "Count what the user paid, not plans or what others paid."
)
_ENTRIES = {  # whether entries hold scenes
    False: "value the amounts joined by '+'. ",
    True: "value the amounts with what they were for, joined by '+', such as '12.50 coffee + 8 a taxi'. ",
}
_VALUES = "Amounts are numbers, dates are YYYY-MM-DD, several dates or categories are joined by a comma."



def _memory(schema_given: bool, scenes: bool) -> str:
    if schema_given:
        return (
            "You keep the memory of a user's expenses. Store the new session in the memory bank: one entry a date and "
            f"category, key 'YYYY-MM-DD Category', {_ENTRIES[scenes]}{_LEDGER} Then call update_core "
            "with the new grand total."
        )
    return (
        "You keep a memory of a long stream that you read piece by piece. Later you will be asked about it and see "
        "only this memory. Store what matters in the memory bank, then call update_core with a short summary of "
        "everything so far."
    )


def _question(schema_given: bool, scenes: bool) -> str:
    if schema_given:
        return (
            "Answer a question about a user's expenses from memory. Bank entries have the key 'YYYY-MM-DD Category' "
            f"and as {_ENTRIES[scenes]}{_LEDGER} Look up what you need, calculate, then call answer with the "
            f"value alone. {_VALUES}"
        )
    return (
        "Answer a question about a long stream that you have read. Look up what you need in memory, think, then call "
        f"answer with the value alone. {_VALUES}"
    )


_READING = {
    True: (
        "Answer a question about a user's expenses from these sessions. " + _LEDGER + " Calculate, then give the value "
        "alone in \\boxed{}. " + _VALUES
    ),
    False: "Answer a question from these parts of a long stream. Think, then give the value alone in \\boxed{}. "
    + _VALUES,
}


def memory_session(core: str, chunk: str, schema_given: bool, scenes: bool = False) -> list[dict[str, str]]:
    """Phase I: what the policy reads when chunk ``c_k`` arrives (paper section 3)."""
    return [
        {"role": "system", "content": _memory(schema_given, scenes)},
        {"role": "user", "content": f"Core memory: {core or '(empty)'}\nNew session:\n{chunk}"},
    ]


def question_session(core: str, question: str, schema_given: bool, scenes: bool = False) -> list[dict[str, str]]:
    """Phase II: what the policy reads when it is asked a question."""
    return [
        {"role": "system", "content": _question(schema_given, scenes)},
        {"role": "user", "content": f"Core memory: {core or '(empty)'}\nQuestion: {question}"},
    ]


def reading(text: str, question: str, schema_given: bool) -> list[dict[str, str]]:
    """Concat and RAG: the raw sessions that fit the budget, the question at the end; no text for question only."""
    return [
        {"role": "system", "content": _READING[schema_given]},
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
