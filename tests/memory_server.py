"""A scripted model at a local server that keeps a memory: of "NAME likes THING" an entry, and answers from it."""

from __future__ import annotations

import json
import re
import threading

from tests.model_server import completion, message, server
from uma_lib.tools import render_call


def said(messages: list[dict]) -> str:
    """The last user's text that opens a session."""
    texts = [m["content"] for m in messages if m["role"] == "user"]
    return next(text for text in reversed(texts) if "<tool_response>" not in text)


def calls_for(messages: list[dict]) -> list[tuple[str, dict]]:
    """What a faithful model calls next."""
    opening = said(messages)
    after = messages[max(i for i, m in enumerate(messages) if m.get("content") == opening) + 1 :]
    if "New session:" in opening:
        core, chunk = re.fullmatch(r"Core memory: (.*?)\nNew session:\n(.*)", opening, re.DOTALL).groups()
        facts = re.findall(r"(\w+) likes (\w+)", chunk)
        if not after:  # one turn to store, one to commit
            return [("add", {"key": name, "value": thing}) for name, thing in facts] or [("list", {})]
        count = len(facts) + int((re.findall(r"\d+", core) or ["0"])[0])
        return [("update_core", {"text": f"{count} facts"})]
    if not after:
        name = re.search(r"What does (\w+) like", opening)
        return [("retrieve", {"key": name[1]} if name else {"key": "nobody"})]
    result = after[-1]["content"]
    result = re.sub(r"</?tool_response>", "", result).strip()
    return [("answer", {"text": result})]


class MemoryServer:
    """`play` of a test server. ``faults`` are answers that come instead, one for each request, before right ones.

    ``native``: answers with tool_calls; else with calls in the text.
    """

    def __init__(self, native: bool, faults=()):
        self.native, self.faults = native, list(faults)
        self.lock = threading.Lock()
        self.requests: list[dict] = []

    def __call__(self, body, number, headers):
        with self.lock:
            self.requests.append(body)
            if self.faults:
                fault = self.faults.pop(0)
                if fault is not None:
                    return fault
        calls = calls_for(body["messages"])
        assert ("tools" in body) == self.native
        usage = {"prompt_tokens": len(json.dumps(body["messages"])) // 4, "completion_tokens": 20}
        if self.native:
            told = [
                {"id": f"x{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
                for n, (name, arguments) in enumerate(calls)
            ]
            status, answer = message("tool_calls", content=None, tool_calls=told)
        else:
            status, answer = completion("\n".join(render_call(name, **arguments) for name, arguments in calls))
        return status, answer | {"usage": usage}

    def run(self, **more):
        return server(self, **more)
