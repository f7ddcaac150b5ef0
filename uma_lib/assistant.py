r"""A memory over your own text, outside any benchmark: read, ask, save, go on tomorrow.

    >>> agent = MemoryAgent("Qwen/Qwen3-4B-Instruct-2507")                                # doctest: +SKIP
    >>> agent = MemoryAgent("http://localhost:8000/v1#qwen3-4b")                          # doctest: +SKIP
    >>> agent.save("diary")           # from now on every chunk that is read is on disk   # doctest: +SKIP
    >>> agent.read(Path("chat.json")) # or a text, or a list of messages                  # doctest: +SKIP
    >>> agent.ask("Where does Ada live?").text                                            # doctest: +SKIP
    'London'
    >>> MemoryAgent.load("diary").read(Path("chat.json"))  # reads what is new            # doctest: +SKIP

A folder holds ``history.jsonl`` (a line a chunk: its text, what it changed, the core after it; all else follows from
it), ``bank.jsonl`` and ``core.txt`` for people to read (as of the last `read` that ended), ``agent.json`` with the
settings, and ``index.npz`` where searches by meaning have made vectors. A process that is killed loses the chunk in
hand at most.

With the model at a server nothing here imports torch, until raw text is searched by meaning.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from uma_lib import views
from uma_lib.agents.agent import Setting, Trace
from uma_lib.agents.uma import UMA
from uma_lib.engines.open import open_engine
from uma_lib.engines.protocol import Dialogue, Engine
from uma_lib.environment import MEMORY_SCHEMAS, Limits
from uma_lib.files import RunError, atomic_write_json, atomic_write_text, file_error, read_json
from uma_lib.memory import Memory
from uma_lib.parameters import bounded, check
from uma_lib.processes import one_writer
from uma_lib.prompts import GENERAL, memory_session
from uma_lib.retrieval import MiniLM
from uma_lib.sample import Guide
from uma_lib.texts import chunks_of, messages_in, text_of, units_of, whole

LEAST_CHUNK = 16  # tokens


@dataclass(frozen=True)
class AssistantConfig:
    """How a memory is kept and asked."""

    model: str = ""  # a folder, a .gguf file, a hub name, or a server's address, http://host:8000/v1#name
    name: str = ""  # of the model at a server, where it does not stand behind the address
    session_tokens: int = 4096  # budget of a session, its prompt included
    turn_tokens: int = 1024  # budget of what is written in one turn
    core_tokens: int = 512  # budget of the core memory
    turns: int = 10  # of a session, at most
    chunk_tokens: int = 0  # of a chunk, at most; 0: a third of session_tokens, or what fits
    instructions: str = ""  # added to what the model is told when it reads, such as what to store
    wording: str = ""  # added to what it is told when it answers, such as how
    temperature: float = 0.0  # of sampling; 0 takes the likeliest token
    seed: int = 0  # of sampling
    raw_search: bool = True  # questions may search the raw text, by words and by meaning
    # a model on this machine
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of weights and arithmetic
    device: str = ""  # such as cuda or cpu; empty: the GPU if there is one
    thinking: Literal["default", "on", "off"] = "default"  # where the model's template can
    # a model at a server
    native_tools: bool = True  # send tools=; else describe them in the prompt, for servers that read no calls
    context_tokens: int = 32_768  # that the server's model can read
    tokenizer: str = ""  # a folder with tokenizer.json to count by; empty: by bytes, about
    key_variable: str = ""  # environment variable that holds the API key
    timeout: float = 120.0  # seconds without a sign of the server
    patience: float = 600.0  # seconds to go on with a request that fails for a passing reason

    def __post_init__(self) -> None:
        least_one = (1, math.inf)
        bounded(
            self, session_tokens=least_one, turn_tokens=least_one, core_tokens=least_one, turns=least_one,
            temperature=(0, 100), seed=(0, math.inf), context_tokens=least_one, chunk_tokens=(0, math.inf),
        )  # fmt: skip

    @property
    def limits(self) -> Limits:
        return Limits(
            turns=self.turns, core_tokens=self.core_tokens, session_tokens=self.session_tokens,
            turn_tokens=self.turn_tokens,
        )  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What came of a question."""

    text: str | None  # None: the session ended without an answer
    trace: Trace  # the whole session: messages, tool calls and results
    tokens: int  # read and written
    seconds: float

    def __str__(self) -> str:
        return "(no answer)" if self.text is None else self.text

    def _repr_html_(self) -> str:
        told = f"{self.tokens} tokens, {self.seconds:.1f} s, {len(self.trace.calls)} calls"
        return views.paragraph(self) + views.block(told, self.trace._repr_html_(), opened=False)


def engine_of(config: AssistantConfig) -> Engine:
    """The engine of a configuration."""
    name = f"{config.model}#{config.name}" if config.name else config.model
    return open_engine(
        name, dtype=config.dtype, device=config.device, thinking={"on": True, "off": False}.get(config.thinking),
        server={
            "native_tools": config.native_tools, "context_tokens": config.context_tokens,
            "tokenizer": config.tokenizer or None, "key_variable": config.key_variable or None,
            "timeout": config.timeout, "patience": config.patience,
        },
    )  # fmt: skip


class MemoryAgent:
    """One memory over one stream of text.

    model: a folder, a ``.gguf`` file, a hub name, or a server's address. engine: an engine that is there already,
    instead. guide: what the model is told (`sample.Guide`), such as what to store and how to word answers. The other
    settings are the fields of `AssistantConfig`.

    ``memory`` is the core and the bank; ``chunks`` are the texts that were read.

    Raises `RunError` of one line for a setting that cannot be.
    """

    def __init__(
        self, model: str | Path = "", *, engine: Engine | None = None, guide: Guide = GENERAL, **settings: Any
    ):
        self.config = check(AssistantConfig, {"model": str(model), **settings})
        self.guide, self.folder = guide, None
        self.engine = engine or engine_of(self.config)
        config = self.config
        limits = replace(config.limits, session_tokens=min(config.session_tokens, self.engine.context_tokens))
        told = Guide(
            f"{guide.memory} {config.instructions}".strip(), f"{guide.question} {config.wording}".strip(), guide.reading
        )
        encode = MiniLM() if config.raw_search else None
        self._agent = UMA(
            Setting(limits, told, (config.seed,), self.engine.count, self.engine.size, encode, config.raw_search)
        )
        self._encoded = 0  # texts whose vectors are in index.npz
        self._sources: dict[str, tuple[int, str]] = {}  # name: characters read of it, and their SHA-256
        self._bytes = 0  # of history.jsonl, as far as this agent has written or read it

    def __repr__(self) -> str:
        where = f", in {self.folder}" if self.folder else ""
        return f"MemoryAgent({len(self.chunks)} chunks, {self.memory!r}{where})"

    def _repr_html_(self) -> str:
        return views.paragraph(f"Memory over {len(self.chunks)} chunks") + self.memory._repr_html_()

    @property
    def memory(self) -> Memory:
        return self._agent.memory

    @property
    def chunks(self) -> list[str]:
        return [record["chunk"] for record in self._agent.history]

    @property
    def room(self) -> int:
        """Tokens that a chunk may have, so that it fits beside prompt, tools, a full core memory, and some turns.

        Raises `RunError` where nothing is left for one.
        """
        config, limits = self.config, self._agent.setting.limits
        empty = self.engine.size(memory_session("", "", self._agent.setting.guide), MEMORY_SCHEMAS)
        most = (limits.session_tokens - empty - limits.core_tokens) // 2  # as much to write and to read results
        room = min(config.chunk_tokens or limits.session_tokens // 3, most)
        if room < LEAST_CHUNK:
            raise RunError(
                f"session_tokens={limits.session_tokens} leaves no room for a chunk beside a prompt of {empty} tokens "
                f"and core_tokens={limits.core_tokens}: raise session_tokens, or lower core_tokens"
            )
        return room

    # reading

    def read(
        self,
        what: str | Path | Sequence[dict[str, Any]],
        source: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Trace]:
        """Read a text, a list of messages, or a file; returns the trace of every memory session.

        what: a str is a text; a `Path` a file: ``.json`` and ``.jsonl`` hold messages (`messages_in`), others text.
        Messages are dicts with ``content`` and, where known, ``role`` and ``time``. It is cut into chunks that fit, at
        borders of messages and lines.

        source: a name under which it is remembered how far this was read; a file's is its name. Read again, with more
        at its end, only what is new is read. Where the beginning has changed, `RunError` says so.

        progress: called with (chunks read, all chunks) after each; by default a bar is shown.

        A session that fails leaves the memory of the chunk before it; what was read before stays read.
        """
        if isinstance(what, Path):
            source = source or what.name
            what = messages_in(what) if what.suffix in (".json", ".jsonl") else text_of(what)
        elif isinstance(what, str) and _is_file(what):
            raise RunError(f"{what!r} is a file: write Path({what!r}) to read what is in it")
        units = [what] if isinstance(what, str) else units_of(what)
        units = list(map(whole, units))
        text = "\n".join(units)
        with self._writing():
            start = self._unread(text, source)
            pieces = list(chunks_of(text, units, self.engine.count, self.room, start))
            digest, hashed, traces = hashlib.sha256(_bytes(text[:start])), start, []
            with tqdm(pieces, desc="read", unit="chunk", disable=True if progress else None) as bar:
                for begin, end in bar:
                    (trace,) = self._generate([self._agent.observe(text[begin:end])])
                    digest.update(_bytes(text[hashed:end]))
                    hashed = end
                    self._keep(trace, source, end, digest.hexdigest())
                    traces.append(trace)
                    if progress:
                        progress(len(traces), len(pieces))
            if self.folder and traces:
                self._show()
        return traces

    async def aread(self, what: str | Path | Sequence[dict[str, Any]], source: str | None = None) -> list[Trace]:
        """`read` beside other coroutines. One memory is read into by one coroutine at a time."""
        return await asyncio.to_thread(self.read, what, source, lambda done, all: None)

    def ask(self, question: str) -> Answer:
        """Answer from the memory, which stays as it is."""
        if not isinstance(question, str) or not question.strip():
            raise RunError("give a question that is a text")
        began = time.monotonic()
        (trace,) = self._generate([self._agent.answer(whole(question))])
        with suppress(RunError):  # where nothing can be written, the next search by meaning takes longer
            self._keep_index()
        return Answer(trace.answer, trace, trace.read + trace.written, round(time.monotonic() - began, 3))

    async def aask(self, question: str) -> Answer:
        """`ask` beside other coroutines, as many at a time as you like."""
        return await asyncio.to_thread(self.ask, question)

    def _generate(self, dialogues: list[Dialogue[Trace]]) -> list[Trace]:
        try:
            return self.engine.generate(dialogues, temperature=self.config.temperature)
        finally:
            for dialogue in dialogues:
                dialogue.close()  # one that was left half done undoes what it has changed

    def _unread(self, text: str, source: str | None) -> int:
        """Where reading goes on in a source."""
        if source is None or source not in self._sources:
            return 0
        end, digest = self._sources[source]
        if hashlib.sha256(_bytes(text[:end])).hexdigest() != digest:
            raise RunError(f"{source}: what was read of it has changed since; read it under another name of source")
        return end + (text[end : end + 1] == "\n")

    def _keep(self, trace: Trace, source: str | None, end: int, digest: str) -> None:
        """Note how far a source was read, and write the newest record to disk."""
        record = self._agent.history[-1]
        record["tokens"], record["finished"] = [trace.read, trace.written], trace.finished
        if source is not None:
            record |= {"source": source, "end": end, "digest": digest}
            self._sources[source] = end, digest
        if self.folder is None:
            return
        path, line = self.folder / "history.jsonl", _line(record)
        try:
            with open(path, "ab", buffering=0) as file:
                if file.seek(0, os.SEEK_END) != self._bytes:
                    raise RunError(f"{path} was changed by somebody else meanwhile: load the folder again and go on")
                try:
                    file.write(line)
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(self._bytes)  # a disk that fills up within a line must not spoil the file
                    raise
        except OSError as error:
            self._forget(record)
            raise file_error(error, path, "write") from error
        except RunError:
            self._forget(record)
            raise
        self._bytes += len(line)

    def _forget(self, record: dict) -> None:
        """The chunk in hand could not be written: be as before it."""
        agent = self._agent
        agent.history.pop()
        bank = agent.memory.bank
        bank.revert(bank.version - len(record["changes"]))
        agent.memory.core.restore(agent.history[-1]["core"] if agent.history else "")
        self._sources = {}
        for earlier in agent.history:
            self._note(earlier)
        if agent.index is not None:
            agent.index = type(agent.index)(agent.setting.encode)
            for earlier in agent.history:
                agent.index.add_chunk(earlier["chunk"])

    def _note(self, record: dict) -> None:
        if "source" in record:
            self._sources[record["source"]] = int(record["end"]), record["digest"]

    # folders

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with one_writer(self.folder) if self.folder else nullcontext():
            if self.folder:
                self._drop_torn_line()
            yield

    def _drop_torn_line(self) -> None:
        """A process that was killed while it wrote may have left part of a line, which is none of the history."""
        path = self.folder / "history.jsonl"
        try:
            with open(path, "rb+") as file:
                file.seek(self._bytes)
                rest = file.read()
                if b"\n" in rest:
                    raise RunError(f"{path} was changed by somebody else meanwhile: load the folder again and go on")
                if rest:
                    file.truncate(self._bytes)
        except OSError as error:
            raise file_error(error, path, "read") from error

    def save(self, folder: str | Path) -> None:
        """Write everything into a folder; from now on every chunk that is read is written there at once.

        Raises `RunError` for a folder that holds another memory, and for files that cannot be written.
        """
        folder = Path(folder).expanduser().absolute()
        path = folder / "history.jsonl"
        if path.exists() and (self.folder is None or folder.resolve() != self.folder.resolve()):
            raise RunError(f"{folder} holds a memory already: MemoryAgent.load it, or choose another folder")
        with one_writer(folder):
            if self.folder is None or folder.resolve() != self.folder.resolve():
                lines = b"".join(map(_line, self._agent.history))
                atomic_write_text(path, lines.decode())
                self._bytes = len(lines)
            self.folder = folder
            config = asdict(self.config)
            config |= {name: _lasting(config[name]) for name in ("model", "tokenizer")}
            atomic_write_json(folder / "agent.json", {"config": config, "guide": asdict(self.guide)})
            self._show()
            self._encoded = 0
            self._keep_index()

    def _keep_index(self) -> None:
        """Write the vectors that searches by meaning have made since."""
        index = self._agent.index
        if self.folder and index is not None and index.encoded != self._encoded:
            index.save(self.folder / "index.npz")
            self._encoded = index.encoded

    def _show(self) -> None:
        """Bank and core as files that people read."""
        self.memory.bank.save(self.folder / "bank.jsonl")
        atomic_write_text(self.folder / "core.txt", self.memory.core.text)

    @classmethod
    def load(cls, folder: str | Path, *, engine: Engine | None = None, **settings: Any) -> MemoryAgent:
        """The memory of a folder; ``settings`` override those that it was saved with.

        Raises `RunError` naming file and line for what is missing or damaged.
        """
        folder = Path(folder).expanduser().absolute()
        held = read_json(folder / "agent.json")
        try:
            known = {field.name for field in fields(AssistantConfig)}
            values = {name: value for name, value in held["config"].items() if name in known}
            guide = Guide(**held["guide"])
        except (LookupError, TypeError, AttributeError) as error:
            raise RunError(f"{folder / 'agent.json'}: not the settings of a memory; restore the file") from error
        agent = cls(engine=engine, guide=guide, **values | settings)
        agent._recall(folder)
        return agent

    def _recall(self, folder: Path) -> None:
        path = folder / "history.jsonl"
        records, self._bytes = records_of(folder)
        for number, record in enumerate(records, start=1):
            try:
                self._agent.recall(record)
                self._note(record)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                raise RunError(f"{path}:{number}: not a record of a chunk ({error}); restore the file") from error
        self.folder = folder
        if self._agent.index is not None:
            self._agent.index.load(folder / "index.npz")
            self._encoded = self._agent.index.encoded


def records_of(folder: Path) -> tuple[list[dict], int]:
    """The records of a memory's history, and their bytes in its file; a last line that was cut by a kill is none.

    Raises `RunError` naming file and line.
    """
    path = Path(folder) / "history.jsonl"
    try:
        data = path.read_bytes()  # a line that was cut may end within a character
    except OSError as error:
        raise file_error(error, path, "read") from error
    whole, records = data[: data.rfind(b"\n") + 1], []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            records.append(json.loads(line))
            if not {"chunk", "core", "changes"} <= records[-1].keys():
                raise ValueError("it needs chunk, core and changes")
        except (ValueError, AttributeError, RecursionError) as error:
            raise RunError(f"{path}:{number}: not a record of a chunk ({error}); restore the file") from error
    return records, len(whole)


def _is_file(text: str) -> bool:
    try:
        return "\n" not in text and Path(text).is_file()
    except (OSError, ValueError):  # too long for a name
        return False


def _lasting(name: str) -> str:
    """A name of a model that means the same from another directory."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name and path.exists() else name


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _line(record: dict) -> bytes:
    # lines end at \n alone: JSON escapes those within texts
    return (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "replace")
