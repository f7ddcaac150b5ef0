"""MEM1: one internal state that is reasoned in and carried on, and nothing else (Zhou et al., arXiv 2506.15841).

Each turn reads the state and what is new, reasons, and writes the state anew between ``<IS>`` and ``</IS>``; all before
that is dropped, the reasoning as well. The answer is given from the state.

Deviations: the paper's agent also asks a search engine for what is new; here the stream brings it. The state has the
budget of MemAgent's memory, and the turn as much again to reason in. A turn without a state, or cut before it began
one, leaves the old state as it was.
"""

from __future__ import annotations

import re

from uma_lib.agents.agent import Trace, ask_once
from uma_lib.agents.memagent import TextMemory, fitting
from uma_lib.engines.protocol import Dialogue, Message

OPEN, CLOSE = "<IS>", "</IS>"
_STATE = re.compile(r"<IS>((?:(?!<IS>).)*?)(?:</IS>|\Z)", re.DOTALL)

CARRY_ON = (
    "You read a long stream part by part. Nothing stays with you but your internal state. Reason about the new part, "
    f"then write the state anew between {OPEN} and {CLOSE}: all that you will need to answer questions about the "
    f"stream."
)


class MEM1(TextMemory):
    """``memory`` is the internal state."""

    def rewriting(self, memory: str, segment: str, question: str) -> list[Message]:
        about = self.setting.guide.about
        text = f"{OPEN}{memory}{CLOSE}\nNew part:\n{segment}"
        return [{"role": "system", "content": CARRY_ON + (f" {about}" if about else "")},
                {"role": "user", "content": text}]  # fmt: skip

    def asking(self, memory: str, question: str) -> list[Message]:
        text = f"{OPEN}{memory}{CLOSE}\nQuestion: {question}"
        return [{"role": "system", "content": self.setting.guide.reading}, {"role": "user", "content": text}]

    def taken(self, trace: Trace, old: str) -> str:
        states = _STATE.findall(trace.messages[-1]["content"])
        return fitting(states[-1].strip(), self.budget, self.setting) or old if states else old

    def rewritten(self, memory: str, segment: str, question: str, *key: int | str) -> Dialogue[tuple[str, Trace]]:
        setting = self.setting
        most = 2 * self.budget
        trace = yield from ask_once(setting, "memory", self.rewriting(memory, segment, question), most, *key)
        trace.core = self.taken(trace, memory)
        return trace.core, trace
