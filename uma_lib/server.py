"""Chat completions of any OpenAI-compatible server, asked for by several threads, with every answer kept if wanted.

The package `openai` talks to the server. This module adds the cache, patience, and errors of one line. What may pass is
tried again with growing pauses, or after the one that the server asks for (Retry-After), for as long as the user
allows: time-outs, broken connections, a server that is not there, HTTP 408, 409, 425, 429 and 5xx, and what is no chat
completion (a proxy's page, half a body). It imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx2
import openai
from tqdm import tqdm

from uma_lib.files import RunError, SessionError, atomic_write_json, file_error, read_json

DAY = 86_400.0  # seconds; sockets wait for no more than 24 of them
LONGEST_PAUSE = 30.0  # seconds between two attempts, unless the server asks for more
_KEY = "put a valid API key into an environment variable and its name into key_variable"
_CHANGES = {  # HTTP status: what to change
    401: _KEY,
    403: _KEY,
    404: "check base_url (most end in /v1) and model",
    429: "lower parallel, or run again later",
}
_ALONE = (400, 413, 422)  # of a request that this server will not take, such as one that is too long
_PASSING = (408, 409, 425, 429)  # HTTP status that another attempt may not meet; so may those from 500 on
_LASTING = re.compile("CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER")  # of a connection
# parts of a path that are no key, and may be shown
_PLAIN = re.compile(r"|v\d{1,2}(?:(?:alpha|beta)\d?)?|api|openai|compatible-mode|inference|llm|chat|completions")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>\\]+", re.IGNORECASE)
_CUT = ("length", "max_tokens", "max_output_tokens", "model_length", "content_filter")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a model, with what servers tell apart from its text.

    >>> print(Reply("Noted.", calls=('{"name": "add", "arguments": {"key": "a", "value": "12"}}',)).turn)
    Noted.
    <tool_call>
    {"name": "add", "arguments": {"key": "a", "value": "12"}}
    </tool_call>
    """

    text: str  # what it said; with the thought in it where the server leaves that there
    thought: str = ""  # reasoning that the server has taken out of the text
    calls: tuple[str, ...] = ()  # tool calls that the server has taken out, as JSON or as near to it as they came
    refusal: str = ""
    ended: str = "stop"  # finish_reason
    read: int = 0  # tokens of the prompt, and those written, as the server counts them; 0 where it does not say
    written: int = 0

    @property
    def cut(self) -> bool:
        """Whether the model had not come to its end."""
        return self.ended.lower() in _CUT

    @property
    def turn(self) -> str:
        """The text and the calls, these in Hermes form, as a model writes them whose server reads no calls.

        A call that was cut gets no closing tag, so that it can be told from a whole one.
        """
        calls = [f"<tool_call>\n{call}" + "\n</tool_call>" * (not self.cut or _is_json(call)) for call in self.calls]
        return "\n".join(part for part in (self.text, *calls) if part)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an attempt has brought no answer."""

    what: str
    change: str  # what the user may change
    passes: bool = True  # perhaps
    alone: bool = False  # it concerns this request: others may be answered
    wait: float = 0.0  # seconds that the server asks for


class Server:
    """One address with its cache. The API key stands in no message, in no answer and in no file.

    base_url: up to and with /v1; of its path, messages show only what cannot be a key. cache: a folder, or None to keep
    no answer. key_variable: environment variable that holds the key, if the server wants one. timeout: seconds without
    a sign of the server. patience: seconds for which a request that has failed is tried again, if what failed may pass;
    0 for one attempt. pause: seconds before the second attempt, then twice as long each time, up to `LONGEST_PAUSE`.

    Raises `RunError` of one line that names the setting to change.

    >>> Server("http://me:secret@host/v1", Path("cache"))
    Traceback (most recent call last):
    uma_lib.files.RunError: base_url holds credentials; name the variable that holds the key in key_variable
    """

    def __init__(
        self,
        base_url: str,
        cache: Path | None,
        key_variable: str | None = None,
        timeout: float = 120.0,
        patience: float = 600.0,
        pause: float = 0.5,
    ):
        for name, value, right, wanted in (  # nan is never right
            ("timeout", timeout, 0 < timeout <= DAY, "more than 0 seconds, at most a day"),
            ("patience", patience, 0 <= patience <= 366 * DAY, "seconds, at most a year; 0 is one attempt"),
            ("pause", pause, 0 < pause <= DAY, "more than 0 seconds, at most a day"),
        ):
            if not right:
                raise RunError(f"{name} is {value:g}; write {wanted}")
        _check_url(base_url)
        self.url = _shown(f"{base_url.rstrip('/')}/chat/completions")  # for messages
        self.cache = None if cache is None else _folder(cache)
        self.timeout, self.patience, self.pause = timeout, patience, pause
        self.requests = 0  # that the server has answered
        self._over: RunError | None = None  # why nothing more is asked for
        self._ended = threading.Event()  # set with it: whoever waits for another attempt wakes up
        self._lock = threading.Lock()
        self._told = False  # that attempts fail; until one succeeds
        key = _key(key_variable) if key_variable else ""
        path = [part for part in httpx2.URL(base_url).path.split("/") if not _PLAIN.fullmatch(part)]
        # a short part of the path is no key, and a word that answers may need
        self._secret = _spelled([key, *(part for part in path if len(part) > 5)])
        self._private = _spelled([key, *(part for part in path if len(part) > 2)])
        # the package would take a key and more from OPENAI_... variables, whatever the address
        self._headers = {
            "Authorization": f"Bearer {key}" if key else openai.Omit(),
            "OpenAI-Organization": openai.Omit(),
            "OpenAI-Project": openai.Omit(),
        }
        self._client = openai.OpenAI(
            api_key="in the headers", base_url=base_url, timeout=timeout, max_retries=0, http_client=_http()
        )

    def ask(self, request: dict[str, Any]) -> Reply:
        """One answer, from the cache if this very request is there.

        request: the arguments of `openai`'s ``chat.completions.create``, all of them JSON. A damaged entry of the cache
        is as good as none. Raises `RunError` (address, what happened, what to change) where another attempt is of no
        use, or the patience is over; that ends what other threads ask for as well. It is a `SessionError`, and they
        go on, where the server refuses this very request (HTTP 400, 413, 422).

        >>> server = Server("http://localhost:8000/v1", Path("cache"))  # doctest: +SKIP
        >>> server.ask({"model": "qwen3-4b", "messages": [{"role": "user", "content": "Hello"}]})  # doctest: +SKIP
        Reply(text='Hello! How can I help you?', thought='', calls=(), refusal='', ended='stop', read=9, written=9)
        """
        if self.cache is None:
            answer = self._ask(request)
            with self._lock:
                self.requests += 1
            return answer
        digest = hashlib.sha256(json.dumps(request, sort_keys=True, allow_nan=False).encode("utf-8")).hexdigest()
        path = self.cache / digest[:2] / f"{digest}.json"  # 256 folders: a million answers are some 4,000 files in each
        answer = _cached(path, request)
        if answer is None:
            answer = self._ask(request)
            fields = asdict(answer)
            entry = {"request": request, "reply": fields.pop("text"), "finish_reason": fields.pop("ended"), **fields}
            with self._lock:  # two threads may write the same entry
                atomic_write_json(path, entry)
                self.requests += 1
        return answer

    def stop(self) -> None:
        """Let no further attempt begin, in any thread; answers under way still come."""
        self._end(RunError(f"{self.url}: stopped"))

    def close(self) -> None:
        """`stop`, and close all connections."""
        self.stop()
        self._client.close()

    def _end(self, why: RunError) -> RunError:
        """The end of all requests; whichever thread is heard first says the same."""
        with self._lock:
            self._over = self._over or why
            self._ended.set()
            return RunError(str(self._over))  # an exception belongs to one thread

    def _ask(self, request: dict[str, Any]) -> Reply:
        """The first answer of as many attempts as it takes."""
        failed: float | None = None  # when the first attempt had
        attempts = 0
        while True:
            if self._over:
                raise RunError(str(self._over))
            attempts += 1
            answer = self._attempt(request)
            if isinstance(answer, Reply):
                self._told = False
                return answer
            failed = time.monotonic() if failed is None else failed
            left = failed + self.patience - time.monotonic()
            # an attempt at the very end, but none before the server wants it
            pause = min(LONGEST_PAUSE, self.pause * 2 ** min(attempts - 1, 20)) * random.uniform(0.5, 1.0)
            pause = answer.wait or min(pause, left)
            if answer.alone:
                raise SessionError(str(self._error(answer, attempts)))
            if not answer.passes or left <= 0 or pause > left:
                raise self._end(self._error(answer, attempts))
            self._tell(answer, attempts, left)
            self._ended.wait(pause)

    @property
    def _kept(self) -> str:
        return "No answer is kept: run again" if self.cache is None else "Answers so far are kept: run again to go on"

    def _error(self, failure: _Failure, attempts: int) -> RunError:
        what, change = failure.what, failure.change
        if failure.passes:
            asked = f", asks to wait {failure.wait:.0f} s" if failure.wait >= 1 else ""
            what, change = f"{what}{asked} (attempts: {attempts})", f"{change}, or raise patience"
        return RunError(f"{self.url}: {what}; {change}. {self._kept}")

    def _tell(self, failure: _Failure, attempts: int, left: float) -> None:
        """One line to the user who waits, once until the server answers again."""
        with self._lock:
            told, self._told = self._told, self._told or attempts > 2
        if self._told and not told:
            line = f"{self.url}: {failure.what}; it is tried again for up to {left:.0f} s ({failure.change})"
            tqdm.write(line, file=sys.stderr)

    def _attempt(self, request: dict[str, Any]) -> Reply | _Failure:
        # what is raised in here holds the request with its key: it is let go before anything else is raised
        try:
            completions = self._client.chat.completions.with_raw_response
            content = completions.create(**request, extra_headers=self._headers).content
        except openai.APITimeoutError:
            return _Failure(f"no answer in {self.timeout:g} s", "raise timeout or lower parallel")
        except openai.APIConnectionError as error:
            why = self._private_line(str(error.__cause__) or type(error.__cause__).__name__)
            change = "start the server, look at its log, or correct base_url"
            return _Failure(f"no connection, or it broke off: {why}", change, passes=not _LASTING.search(why))
        except openai.APIStatusError as error:
            code = error.status_code
            if code < 400:
                change = "write the final address as base_url"
            elif code >= 500:
                change = "look at the server's log"
            else:
                change = _CHANGES.get(code, "check the model and the other settings")
            what = f"HTTP {code}, {self._excerpt(error.response.content)}"
            passes = code in _PASSING or code >= 500
            return _Failure(what, change, passes, code in _ALONE, _wait(error.response.headers))
        try:
            found = _loads(content)
            return replace(self._reply(found["choices"][0]), **_usage(found.get("usage")))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            what = f"sent no chat completion but {self._excerpt(content)}"
            return _Failure(what, "base_url must lead to an OpenAI-compatible server")

    def _reply(self, choice: dict[str, Any]) -> Reply:
        """The answer in a choice; any exception of a wrong shape where it is none."""
        message, found = choice["message"], {"text": [], "thought": [], "refusal": [], "calls": []}
        content = message.get("content")
        for part in content if isinstance(content, list) else [] if content is None else [content]:
            kind, words = _part(part)
            found[kind].append(words)
        thoughts = (message.get(name) for name in ("reasoning_content", "reasoning", "thinking"))
        if thought := next(filter(None, thoughts), None):  # some servers send the same under two names
            found["thought"].append(thought if isinstance(thought, str) else json.dumps(thought, ensure_ascii=False))
        if refusal := message.get("refusal"):
            found["refusal"].append(str(refusal))
        calls = message.get("tool_calls") or []
        found["calls"] += map(_call, calls if isinstance(calls, list) else [calls])
        if older := message.get("function_call"):
            found["calls"] += [call for call in [_call(older)] if call not in found["calls"]]

        def clean(words: str) -> str:  # JSON may hold half a surrogate pair, which no file can
            return self._secret.sub("[key]", words.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))

        text, thought, refusal = (clean("".join(found[kind])) for kind in ("text", "thought", "refusal"))
        return Reply(text, thought, tuple(map(clean, found["calls"])), refusal, clean(str(choice.get("finish_reason"))))

    def _excerpt(self, content: bytes) -> str:
        text = self._private_line(content.decode("utf-8", "replace"))
        return repr(text[:200]) if text else "nothing"

    def _private_line(self, text: str) -> str:
        """A text of others as one line without keys: they may repeat the address, or tell that of a proxy."""
        text = self._private.sub("[key]", text)
        return " ".join(_ADDRESS.sub(lambda address: _shown(address[0]), text).split())


# --- answers ------------------------------------------------------------------------------------------------------


def _part(part: Any) -> tuple[str, str]:
    """What a part of a content is, and its words: text, and thought, refusals and calls of those who send parts."""
    if isinstance(part, str):
        return "text", part
    kind = part.get("type", "text")
    if kind in ("tool_use", "tool_call", "function_call"):
        return "calls", _call(part)
    name, kind = {
        "text": ("text", "text"),
        "output_text": ("text", "text"),
        "refusal": ("refusal", "refusal"),
        "thinking": ("thinking", "thought"),
        "reasoning": ("text", "thought"),
    }[kind]
    words = part[name]
    if isinstance(words, list):
        words = "".join(_part(inner)[1] for inner in words)
    return kind, "" if words is None else words + ""  # text, or a TypeError


def _usage(usage: Any) -> dict[str, int]:
    """What a server says of the tokens of an answer; 0 where it says nothing, or no number."""
    told = usage if isinstance(usage, dict) else {}
    named = {"read": told.get("prompt_tokens"), "written": told.get("completion_tokens")}
    return {name: value if type(value) is int and value > 0 else 0 for name, value in named.items()}


def _call(call: Any) -> str:
    """A tool call as JSON text; what cannot be read as one as it came, so that whoever reads calls says what is wrong.

    >>> _call({"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"value": 12.50}'}})
    '{"name": "add", "arguments": {"value": 12.50}}'
    """
    if isinstance(call, str):
        return call
    if isinstance(call, dict):
        told = next((call[name] for name in ("function", "custom") if isinstance(call.get(name), dict)), call)
        call = {name: value for name, value in told.items() if name not in ("id", "type", "index")}
        arguments = call.get("arguments")
        if call.keys() == {"name", "arguments"} and isinstance(arguments, str):
            arguments = arguments.strip() or "{}"
            # numbers keep their digits; what was cut stays visibly so
            end = "}" if _is_json(arguments) else ""
            return f'{{"name": {json.dumps(call["name"], ensure_ascii=False)}, "arguments": {arguments}{end}'
    return json.dumps(call, ensure_ascii=False)


def _loads(text: bytes | str) -> Any:
    """JSON in which numbers with a point stay the text they were written as, 12.50 for one, and very long ones too."""
    whole = lambda digits: int(digits) if len(digits) < 19 else digits  # noqa: E731
    return json.loads(text, parse_float=str, parse_int=whole, parse_constant=str)


def _is_json(text: str) -> bool:
    try:
        _loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _cached(path: Path, request: dict[str, Any]) -> Reply | None:
    try:
        entry = read_json(path)
    except RunError:
        return None
    if not isinstance(entry, dict) or entry.get("request") != request:
        return None
    text, ended = entry.get("reply"), entry.get("finish_reason")
    thought, calls, refusal = entry.get("thought", ""), entry.get("calls", []), entry.get("refusal", "")
    if not all(isinstance(words, str) for words in (text, ended, thought, refusal)) or not isinstance(calls, list):
        return None
    if "calls" not in entry and ended in ("tool_calls", "function_call"):
        return None  # of a time when calls were not kept
    told = {name: n if type(n := entry.get(name)) is int else 0 for name in ("read", "written")}
    whole = all(isinstance(call, str) for call in calls)
    return Reply(text, thought, tuple(calls), refusal, ended, **told) if whole else None


# --- secrets, addresses, folders ----------------------------------------------------------------------------------


def _spelled(secrets: list[str]) -> re.Pattern[str]:
    """A pattern for secrets as they are, or as JSON, HTML and addresses may write them; without any it never fits."""

    def one(secret: str) -> str:
        spelled = (
            rf"(?:\\*{re.escape(c)}|\\*u00{ord(c):02x}|%(?:25)?{ord(c):02x}|&#0*{ord(c)};|&#x0*{ord(c):x};"
            rf"{'|&quot;' if c == chr(34) else ''}{'|&amp;' if c == '&' else ''})"
            for c in secret
        )
        return "".join(spelled)

    return re.compile("|".join(map(one, filter(None, secrets))) or "(?!)", re.IGNORECASE)


def _shown(url: str) -> str:
    """An address without what may be secret: user, query, parts of the path.

    >>> _shown("https://me:pw@host:81/api/0123abc/v1/chat/completions?key=1")
    'https://host:81/api/[...]/v1/chat/completions'
    """
    scheme, _, rest = re.split("[?#]", url)[0].partition("://")
    host, *parts = rest.split("/")
    parts = [part if _PLAIN.fullmatch(part) else "[...]" for part in parts]
    return f"{scheme}://{'/'.join([host.rpartition('@')[2], *parts])}"


def _check_url(base_url: str) -> None:
    # no message quotes the address before it is known to hold no password
    if "@" in base_url:
        raise RunError("base_url holds credentials; name the variable that holds the key in key_variable")
    if re.search("[?#]", base_url):
        raise RunError("base_url goes on after the path; leave out everything from the first ? or # on")
    try:
        url = httpx2.URL(base_url)
        host = url.host.encode("idna")  # as it will be looked up
        right = url.scheme in ("http", "https") and host and b"%" not in host and (url.port or 0) < 65536
    except (httpx2.InvalidURL, UnicodeError):
        right = False
    if not right:
        raise RunError("base_url is no address of a server; write it like http://localhost:8000/v1")


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    # no message quotes the name: somebody will put the key itself there
    if not key:
        raise RunError("key_variable names an environment variable that is empty; put the API key into it")
    if re.search(r"[^!-~]", key):
        raise RunError("the environment variable named by key_variable holds no API key but several words")
    return key


def _http() -> httpx2.Client:
    try:
        return openai.DefaultHttpxClient(follow_redirects=False)  # a redirect could take the key to another host
    except (ValueError, ImportError, httpx2.InvalidURL):
        pass  # what it says may hold the proxy's password
    raise RunError("the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY name cannot be used; correct or unset them")


def _folder(path: Path) -> Path:
    """``path``, if a folder is there or can be made there."""
    path = Path(path)
    try:
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    except OSError as error:
        raise file_error(error, path, "write") from error
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise RunError(f"{path}: no folder can be made or written there; choose another one for the cache")
    return path


def _wait(headers: httpx2.Headers) -> float:
    """Seconds that a server asks to wait; 0 where it asks for none or in words that cannot be read."""
    number = re.compile(r"\d{1,9}(?:\.\d*)?", re.ASCII)
    if number.fullmatch(text := headers.get("retry-after-ms", "").strip()):
        return float(text) / 1000
    if number.fullmatch(text := headers.get("retry-after", "").strip()):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return max(0.0, ((when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
