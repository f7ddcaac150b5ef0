"""Any OpenAI-compatible server as an engine: dialogues in threads, calls by ``tools=`` or in the text.

Dialogues run at the same time, at most ``parallel`` of them; what an agent does between two requests is done by one
thread at a time, so agents need no locks. A request that fails is tried again (`server.Server`); one that fails for
good ends the call, and every dialogue that was going on is closed, so that an agent can undo its half session. Where
several servers have the model, dialogues are dealt out to them, and go on at another one when theirs is gone.

It gives text alone, so nothing can be trained on it. It imports no torch.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from uma_lib import prompts
from uma_lib.engines.protocol import Ask, Dialogue, Message, Progress, Turn, no_room
from uma_lib.files import RunError, SessionError, model_folder
from uma_lib.server import Reply, Server

T = TypeVar("T")
BYTES_A_TOKEN = 3  # of text, where no tokenizer says it: rather too many tokens than too few
TEMPLATE_TOKENS = 8  # a message has besides its text, about


class Remote:
    """A model at a server.

    base_url: up to and with /v1; several servers of the same model with commas between. model: its name there.
    native_tools: send schemas as ``tools=`` and take ``tool_calls``; else the prompt describes the tools and calls
    stand in the text. Both read calls wherever they are.
    context_tokens: of a session, at most. tokenizer: a folder with ``tokenizer.json``, to count by; else a token is
    taken for `BYTES_A_TOKEN` bytes. thinking: on or off where the server's template can (``enable_thinking``); None:
    as the server has it. extra: further fields of each request. cache: a folder that keeps every answer, or None.
    The others are those of `server.Server`.

    Raises `RunError` that names the setting to change.

    >>> engine = Remote("http://localhost:8000/v1", "qwen3-4b")  # doctest: +SKIP
    """

    trainable = False

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        native_tools: bool = True,
        parallel: int = 8,
        context_tokens: int = 32_768,
        tokenizer: str | Path | None = None,
        thinking: bool | None = None,
        extra: dict[str, Any] | None = None,
        cache: Path | None = None,
        key_variable: str | None = None,
        timeout: float = 120.0,
        patience: float = 600.0,
        pause: float = 0.5,
    ):
        if parallel < 1 or context_tokens < 1:
            raise RunError(f"parallel is {parallel} and context_tokens {context_tokens}; both must be at least 1")
        if not model:
            raise RunError("model is empty: name a model of the server")
        urls = [url.strip() for url in base_url.split(",")]
        self._settings = [(url, cache, key_variable, timeout, patience / len(urls), pause) for url in urls]
        for settings in self._settings:
            Server(*settings).close()  # says what is wrong with them
        self.model, self.native_tools, self.parallel = model, native_tools, parallel
        self.context_tokens = context_tokens
        self.extra = dict(extra or {})
        if thinking is not None:
            options = self.extra.get("chat_template_kwargs", {})
            self.extra["chat_template_kwargs"] = {**options, "enable_thinking": thinking}
        self._tokenizer = None if tokenizer is None else _tokenizer(tokenizer)
        self._agents = threading.Lock()  # held by whoever runs an agent's code

    def count(self, text: str) -> int:
        """How many tokens a text has, about."""
        if self._tokenizer is None:
            return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_A_TOKEN)
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def size(self, messages: list[Message], tools: list[dict] | None) -> int:
        """How many tokens the opening of a session has, about."""
        schemas = self.count(json.dumps(tools, ensure_ascii=False)) if tools else 0
        return schemas + sum(TEMPLATE_TOKENS + self.count(message["content"] or "") for message in messages)

    def generate(self, dialogues: Iterable[Dialogue[T]], *, temperature: float, progress: Progress = None) -> list[T]:
        """Drive all dialogues to their end; see `protocol.Engine`. The server's own sampling settings stay."""
        # their own, so that calls at the same time do not end each other
        servers = [Server(*settings) for settings in self._settings]
        results: dict[int, T] = {}
        sampled = 0
        waiting = enumerate(dialogues)

        def work() -> None:
            nonlocal sampled
            while True:
                with self._agents:
                    place, dialogue = next(waiting, (None, None))
                if dialogue is None:
                    return
                first = place % len(servers)  # a session stays where its beginning is known
                result, written = self._drive(servers[first:] + servers[:first], dialogue, temperature)
                with self._agents:
                    results[place] = result
                    sampled += written
                    if progress:
                        progress(len(results), sampled)

        try:
            with ThreadPoolExecutor(self.parallel) as pool:
                workers = [pool.submit(work) for _ in range(self.parallel)]
                try:
                    for worker in workers:
                        worker.result()
                except BaseException:
                    for server in servers:
                        server.stop()  # the others end at their next request
                    raise
        finally:
            for server in servers:
                server.close()
        return [results[place] for place in range(len(results))]

    async def agenerate(
        self, dialogues: Iterable[Dialogue[T]], *, temperature: float, progress: Progress = None
    ) -> list[T]:
        """`generate` beside other coroutines."""
        return await asyncio.to_thread(self.generate, dialogues, temperature=temperature, progress=progress)

    def _drive(self, servers: list[Server], dialogue: Dialogue[T], temperature: float) -> tuple[T, int]:
        """One dialogue to its end: what it returns, and the tokens written in it."""
        turn: Turn | None = None
        error: SessionError | None = None
        session, written = _Session(self), 0
        try:
            while True:
                with self._agents:
                    try:
                        ask = dialogue.throw(error) if error else dialogue.send(turn)
                    except StopIteration as end:
                        return end.value, written
                error = None
                if ask.fresh:
                    session = _Session(self)
                try:
                    room = session.read(ask)
                    if room < 1:
                        turn = session.full()
                        continue
                    reply = _first_of(servers, self._request(session, ask, room, temperature))
                except SessionError as refused:
                    error = refused
                    continue
                turn = session.wrote(reply)
                written += session.last_written
        finally:
            with self._agents:
                dialogue.close()

    def _request(self, session: _Session, ask: Ask, room: int, temperature: float) -> dict[str, Any]:
        request = {
            "model": self.model, "messages": list(session.messages), "temperature": temperature,
            "max_tokens": room, "seed": ask.seed % 2**31,
        }  # fmt: skip
        if session.tools:
            request["tools"] = session.tools
        return request | ({"extra_body": self.extra} if self.extra else {})


class _Session:
    """The messages of one session as the server is sent them, and its tokens."""

    def __init__(self, engine: Remote):
        self.engine = engine
        self.messages: list[Message] = []
        self.tools: list[dict] | None = None  # of the request
        self.calls: list[str] = []  # ids of the calls of the last turn
        self.last_text = ""  # of that turn
        self.tokens = 0  # of all messages
        self.written = self.last_written = 0

    def read(self, ask: Ask) -> int:
        """Take the new messages; how many tokens may be written. Below 1 there is no room, and nothing was read."""
        engine = self.engine
        budget = min(ask.budget, engine.context_tokens)
        if ask.fresh:
            opening = list(ask.messages)
            if ask.tools and not engine.native_tools:
                opening = prompts.with_tools(opening, ask.tools)
            self.tools = ask.tools if engine.native_tools else None
            self.messages, self.tokens = opening, engine.size(opening, self.tools)
            if self.tokens >= budget:
                raise no_room(self.tokens, budget)
        else:
            results = [message["content"] for message in ask.messages]
            new = list(self._results(results))
            tokens = engine.size(new, None)
            if self.tokens + tokens >= budget:
                return 0
            self.messages, self.tokens = [*self.messages, *new], self.tokens + tokens
        return int(min(ask.max_new, budget - self.tokens))

    def _results(self, results: list[str]) -> Iterator[Message]:
        """Tool results as the server takes them: by the ids of its calls, else in the text of the user."""
        if len(self.calls) == len(results):
            for name, result in zip(self.calls, results, strict=True):
                yield {"role": "tool", "tool_call_id": name, "content": result}
        else:
            # a call without its own result would be refused: the turn is shown as the text it comes to
            self.messages[-1] = {"role": "assistant", "content": self.last_text}
            told = "\n".join(f"<tool_response>\n{result}\n</tool_response>" for result in results)
            yield {"role": "user", "content": told}

    def wrote(self, reply: Reply) -> Turn:
        """Take an answer."""
        text = self.last_text = reply.turn or reply.refusal
        calls = [_openai_call(call) for call in reply.calls]
        if calls and all(calls) and self.engine.native_tools:
            self.calls = [f"call_{len(self.messages)}_{n}" for n in range(len(calls))]
            told = [{"id": n, "type": "function", "function": c} for n, c in zip(self.calls, calls, strict=True)]
            self.messages.append({"role": "assistant", "content": reply.text, "tool_calls": told})
        else:
            self.calls = []
            self.messages.append({"role": "assistant", "content": text})
        self.last_written = reply.written or self.engine.count(reply.thought + text)
        self.tokens = (reply.read or self.tokens) + self.last_written
        self.written += self.last_written
        return self._turn(text, not reply.cut, thought=reply.thought)

    def full(self) -> Turn:
        """There was no room for what is new."""
        return self._turn("", False, full=True)

    def _turn(self, text: str, stopped: bool, **more: Any) -> Turn:
        return Turn(text, stopped, None, max(0, self.tokens - self.written), self.written, **more)


def _first_of(servers: list[Server], request: dict[str, Any]) -> Reply:
    """The answer of the first server that is there."""
    for server in servers[:-1]:
        try:
            return server.ask(request)
        except SessionError:
            raise
        except RunError:  # the next one has the same model
            continue
    return servers[-1].ask(request)


def _openai_call(call: str) -> dict[str, str] | None:
    """A call that a server gave, as it wants to be shown it again; None for one that is no whole call."""
    try:
        found = json.loads(call)
        return {"name": found["name"] + "", "arguments": json.dumps(found.get("arguments", {}), ensure_ascii=False)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _tokenizer(name: str | Path) -> Any:
    from tokenizers import Tokenizer

    folder = model_folder(name)
    path = None if folder is None else folder / "tokenizer.json"
    if path is None or not path.is_file():
        raise RunError(f"tokenizer {name}: give a folder that holds tokenizer.json")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise RunError(f"tokenizer {path}: {' '.join(str(error).split())[:200]}") from error
