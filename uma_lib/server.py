"""Chat completions of any OpenAI-compatible server, asked for by several threads, with every answer kept in a folder.

The package `openai` talks to the server: its time-outs, and its repeated attempts with growing pauses or the one that
the server asks for (Retry-After) at 408, 409, 429, 5xx and broken connections. This module adds the cache, and errors
of one line. It imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import threading
from pathlib import Path
from typing import Any

import httpx2
import openai

from uma_lib.runs import RunError, atomic_write_json, read_json

PAUSE = 0.5  # seconds before the second attempt at an answer that is no completion; then twice as long each time
_PLAIN = r"|v\d+\w{0,6}|api|openai|openai-compatible|compatible-mode|inference|llm|chat|completions"
_KEY = "put a valid API key into an environment variable and its name into key_variable"
_CHANGES = {  # HTTP status: what to change
    401: _KEY,
    403: _KEY,
    404: "check base_url (most end in /v1) and model",
    429: "lower parallel, or run again later",
}


class Server:
    """One address with its cache. The API key stands in no message, in no answer and in no file.

    base_url: up to and with /v1. key_variable: environment variable that holds the key, if the server wants one.
    timeout: seconds without a sign of the server. attempts: at a request that fails for a passing reason.

    Raises `RunError` of one line that names the setting to change.

    >>> Server("http://me:secret@host/v1", Path("cache"))
    Traceback (most recent call last):
    uma_lib.runs.RunError: base_url holds credentials; name the variable that holds the key in key_variable
    """

    def __init__(
        self, base_url: str, cache: Path, key_variable: str | None = None, timeout: float = 120.0, attempts: int = 5
    ):
        if not 0 < timeout < math.inf or attempts < 1:
            raise RunError(f"timeout is {timeout:g} and attempts is {attempts}; write more than 0, and at least 1")
        _check_url(base_url)
        self.url = _shown(f"{base_url.rstrip('/')}/chat/completions")  # for messages
        self.cache, self.timeout, self.attempts = Path(cache), timeout, attempts
        self.requests = 0  # that the server has answered
        self._over: RunError | None = None  # why nothing more is asked for
        self._ended = threading.Event()  # set with it: whoever waits for another attempt wakes up
        self._lock = threading.Lock()
        key = _key(key_variable) if key_variable else ""
        # as it is, or as JSON and URLs may write it
        spelled = (rf"(?:\\?{re.escape(c)}|\\u00{ord(c):02x}|%{ord(c):02x})" for c in key)
        self._spelled = re.compile("".join(spelled), re.IGNORECASE) if key else None
        # the package would take a key and more from OPENAI_... variables, whatever the address
        self._headers = {
            "Authorization": f"Bearer {key}" if key else openai.Omit(),
            "OpenAI-Organization": openai.Omit(),
            "OpenAI-Project": openai.Omit(),
        }
        # a redirect could take the key to another host
        http = openai.DefaultHttpxClient(follow_redirects=False, event_hooks={"request": [self._go_on]})
        self._client = openai.OpenAI(
            api_key="in the headers", base_url=base_url, timeout=timeout, max_retries=attempts - 1, http_client=http
        )

    def ask(self, request: dict[str, Any]) -> tuple[str, str]:
        """Text and finish_reason of one answer, from the cache if this very request is there.

        request: the arguments of `openai`'s ``chat.completions.create``, all of them JSON. A damaged entry of the cache
        is as good as none. Raises `RunError` (address, what happened, what to change) when all attempts have failed;
        that ends what other threads ask for as well.

        >>> server = Server("http://localhost:8000/v1", Path("cache"))  # doctest: +SKIP
        >>> server.ask({"model": "qwen3-4b", "messages": [{"role": "user", "content": "Hello"}]})  # doctest: +SKIP
        ('Hello! How can I help you?', 'stop')
        """
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode("utf-8")).hexdigest()
        path = self.cache / digest[:2] / f"{digest}.json"  # 256 folders: a million answers are some 4,000 files in each
        answer = _cached(path, request)
        if answer is None:
            answer = self._ask(request)
            with self._lock:  # two threads may write the same entry
                atomic_write_json(path, {"request": request, "reply": answer[0], "finish_reason": answer[1]})
                self.requests += 1
        return answer

    def stop(self) -> None:
        """Let no further attempt begin, in any thread; answers under way still come."""
        self._over = self._over or RunError(f"{self.url}: stopped")
        self._ended.set()

    def close(self) -> None:
        """`stop`, and close all connections."""
        self.stop()
        self._client.close()

    def _go_on(self, _: httpx2.Request) -> None:
        """Called before every attempt."""
        if self._over:
            raise RunError(str(self._over))

    def _ask(self, request: dict[str, Any]) -> tuple[str, str]:
        """An answer with a completion in it; what is none is asked for again: a proxy's page, half a body."""
        for attempt in range(self.attempts):
            content = self._content(request)
            try:
                choice = json.loads(content)["choices"][0]
                text, ended = _text(choice["message"]), choice.get("finish_reason")
                # JSON may hold half a surrogate pair, which no file can
                text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
                return self._hide(text), str(ended)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                if attempt + 1 < self.attempts and not self._ended.wait(min(8.0, PAUSE * 2**attempt)):
                    continue
            if self._over:
                raise RunError(str(self._over))
            what = f"sent no chat completion but {self._excerpt(content)} (attempts: {self.attempts})"
            raise self._failed(what, "base_url must lead to an OpenAI-compatible server") from None

    def _content(self, request: dict[str, Any]) -> bytes:
        """The body of an answer, after as many attempts as it takes."""
        try:
            completions = self._client.chat.completions.with_raw_response
            return completions.create(**request, extra_headers=self._headers).content
        except openai.APITimeoutError:
            what = f"no answer in {self.timeout:g} s (attempts: {self.attempts})"
            raise self._failed(what, "raise timeout or lower parallel") from None
        except openai.APIConnectionError as error:
            why = str(error.__cause__) or type(error.__cause__).__name__
            what = f"no connection, or it broke off: {why} (attempts: {self.attempts})"
            raise self._failed(what, "start the server, look at its log, or correct base_url") from None
        except openai.APIStatusError as error:
            code = error.status_code
            if code < 400:
                change = "write the final address as base_url"
            elif code >= 500:
                change = "look at the server's log"
            else:
                change = _CHANGES.get(code, "check the model and the other settings")
            raise self._failed(f"HTTP {code}, {self._excerpt(error.response.content)}", change) from None

    def _failed(self, what: str, change: str) -> RunError:
        """The end of all requests; whichever thread is heard first says the same."""
        what = " ".join(self._hide(what).split())
        with self._lock:
            self._over = self._over or RunError(
                f"{self.url}: {what}; {change}. Answers so far are kept: run again to go on"
            )
            self._ended.set()
        return self._over

    def _excerpt(self, content: bytes) -> str:
        text = " ".join(self._hide(content.decode("utf-8", "replace")).split())
        return repr(text[:200]) if text else "nothing"

    def _hide(self, text: str) -> str:
        return self._spelled.sub("[key]", text) if self._spelled else text


def _text(message: dict[str, Any]) -> str:
    """What a message says: its text, and calls that the server has taken out of it, in Hermes form.

    A thought that the server sends apart (``reasoning_content``) is no part of it.

    >>> call = {"function": {"name": "add", "arguments": '{"key": "a", "value": "12"}'}}
    >>> print(_text({"content": "Noted.", "tool_calls": [call]}))
    Noted.
    <tool_call>
    {"name": "add", "arguments": {"key": "a", "value": "12"}}
    </tool_call>
    """
    content = message.get("content") or ""
    if isinstance(content, list):  # of parts
        content = "".join(part.get("text") or "" for part in content)
    calls = [*(call["function"] for call in message.get("tool_calls") or ())]
    if message.get("function_call"):  # the older form
        calls.append(message["function_call"])
    return "\n".join(part for part in (content, *map(_hermes, calls)) if part)


def _hermes(call: dict[str, Any]) -> str:
    arguments = call.get("arguments")
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    # arguments that are no JSON stay as they were written: who reads the call says what is wrong with them
    return f'<tool_call>\n{{"name": {json.dumps(call.get("name"))}, "arguments": {written or "{}"}}}\n</tool_call>'


def _shown(url: str) -> str:
    """An address without parts of its path that may be a key."""
    scheme, slashes, rest = url.rpartition("://")
    host, *parts = rest.split("/")
    parts = [part if re.fullmatch(_PLAIN, part) else "[...]" for part in parts]
    return scheme + slashes + "/".join([host, *parts])


def _check_url(base_url: str) -> None:
    if "@" in base_url:  # no message quotes the address before it is known to hold no password
        raise RunError("base_url holds credentials; name the variable that holds the key in key_variable")
    if re.search("[?#]", base_url):
        raise RunError("base_url goes on after the path; leave out everything from the first ? or # on")
    try:
        url = httpx2.URL(base_url)
        host = url.host.encode("idna")  # as it will be looked up
        right = url.scheme in ("http", "https") and host and (url.port is None or url.port < 65536)
    except (httpx2.InvalidURL, UnicodeError):
        right = False
    if not right:
        raise RunError(f"base_url is {_shown(base_url)!r}; write it like http://localhost:8000/v1")


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    # no message quotes the name: somebody will put the key itself there
    if not key:
        raise RunError("key_variable names an environment variable that is empty; put the API key into it")
    if re.search(r"[^!-~]", key):
        raise RunError("the environment variable named by key_variable holds no API key but several words")
    return key


def _cached(path: Path, request: dict[str, Any]) -> tuple[str, str] | None:
    try:
        entry = read_json(path)
    except RunError:
        return None
    if not isinstance(entry, dict) or entry.get("request") != request:
        return None
    text, ended = entry.get("reply"), entry.get("finish_reason")
    return (text, ended) if isinstance(text, str) and isinstance(ended, str) else None
