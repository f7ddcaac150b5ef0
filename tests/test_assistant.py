"""A memory over one's own text: chunks, files, folders, kills, full disks, and what notebooks show."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import uma_lib
from tests.memory_server import MemoryServer
from tests.model_server import server
from uma_lib import MemoryAgent, assistant
from uma_lib.engines.remote import Remote
from uma_lib.files import RunError
from uma_lib.sample import Guide
from uma_lib.texts import chunks_of, messages_in, units_of

CHAT = [{"role": "user", "content": f"Ann{k} likes thing{k}.", "time": f"2024-05-{k + 1:02}"} for k in range(30)]
SMALL = {"session_tokens": 2500, "chunk_tokens": 60, "patience": 20.0}


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    """It stands in for MiniLM: searches by meaning find the texts of nearly the same length."""
    calls = []

    class Encoder:
        def __call__(self, texts):
            calls.append(list(texts))
            angles = np.array([len(text) for text in texts], dtype=float)
            return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    monkeypatch.setattr(assistant, "MiniLM", Encoder)
    return calls


def agent_at(url: str, native: bool = True, **more) -> MemoryAgent:
    return MemoryAgent(url, name="m", **SMALL | {"native_tools": native} | more)


# --- reading, asking, saving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False])
def test_a_chat_is_kept_saved_loaded_elsewhere_and_goes_on(native, tmp_path):
    script = MemoryServer(native)
    with script.run() as (url, _):
        agent = agent_at(url, native)
        traces = agent.read(CHAT[:20], source="chat")
        assert 3 < len(traces) < 20 and all(trace.finished for trace in traces)
        assert "\n".join(agent.chunks) == "\n".join(units_of(CHAT[:20]))
        agent.save(tmp_path / "memory")
        answer = agent.ask("What does Ann7 like?")
        assert answer.text == str(answer) == "thing7" and answer.tokens > 0 and answer.seconds >= 0
        assert [call.name for call, _ in answer.trace.calls] == ["retrieve", "answer"]

        code = f"""
        import json
        from pathlib import Path
        from uma_lib import MemoryAgent
        agent = MemoryAgent.load({str(tmp_path / "memory")!r})
        more = agent.read(json.loads(Path({str(tmp_path / "chat.json")!r}).read_text()), source="chat")
        print(len(more), agent.ask("What does Ann29 like?"), agent.memory.core.text)
        import sys; assert "torch" not in sys.modules
        """
        (tmp_path / "chat.json").write_text(json.dumps(CHAT))
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
        count, found, core, facts = done.stdout.split()
        assert int(count) > 2 and found == "thing29" and (core, facts) == ("30", "facts")

        again = MemoryAgent.load(tmp_path / "memory")
        assert dict(again.memory.bank.items()) == {f"Ann{k}": f"thing{k}" for k in range(30)}
        assert "\n".join(again.chunks) == "\n".join(units_of(CHAT))  # each message once, in order
        assert again.read(CHAT, source="chat") == []  # nothing is new
    lines = (tmp_path / "memory" / "bank.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == [f"Ann{k}" for k in range(30)]
    assert (tmp_path / "memory" / "core.txt").read_text() == "30 facts"


def test_what_changed_in_what_was_read_is_refused(tmp_path):
    with MemoryServer(True).run() as (url, _):
        agent = agent_at(url)
        agent.read(CHAT[:4], source="chat")
        with pytest.raises(RunError, match="chat: what was read of it has changed since"):
            agent.read([{"content": "Bob likes tea."}, *CHAT[1:6]], source="chat")
        assert agent.read(CHAT[:6], source="chat")
        assert len(agent.read("Bob likes tea.")) == 1  # without a source everything is new


def test_guides_and_settings_are_kept_and_overridden(tmp_path):
    guide = Guide("Keep names.", "Answer in one word.", "unused")
    with MemoryServer(True).run() as (url, bodies):
        agent = agent_at(url, guide=guide, thinking="off")
        agent.read("Ann likes tea.")
        agent.save(tmp_path)
        again = MemoryAgent.load(tmp_path, session_tokens=3000)
        assert again.guide == guide and again.config.session_tokens == 3000 and again.config.thinking == "off"
        again.ask("What does Ann like?")
        assert bodies[0]["messages"][0]["content"] == "Keep names."
        assert bodies[-1]["messages"][0]["content"] == "Answer in one word."
        assert bodies[-1]["chat_template_kwargs"] == {"enable_thinking": False}


def test_questions_may_search_the_raw_text_and_the_index_is_kept(tmp_path, encoder):
    def play(body, number, headers):
        names = {tool["function"]["name"] for tool in body["tools"]}
        opened = body["messages"][-1]["role"] == "user"
        call = ("update_core", {"text": "x"}) if "update_core" in names else ("embedding", {"query": "tea", "top_k": 1})
        if not opened:
            call = ("answer", {"text": body["messages"][-1]["content"]})
        told = {"id": "1", "type": "function", "function": {"name": call[0], "arguments": json.dumps(call[1])}}
        return 200, {"choices": [{"message": {"content": None, "tool_calls": [told]}, "finish_reason": "tool_calls"}]}

    with server(play) as (url, bodies):
        agent = agent_at(url)
        agent.read("Ann likes tea.")
        assert agent.ask("tea?").text == "Ann likes tea."
        agent.save(tmp_path)
        encoder.clear()
        (tmp_path / "index.npz").unlink()
        assert MemoryAgent.load(tmp_path).ask("tea?").text == "Ann likes tea."
        assert encoder == [["Ann likes tea."], ["tea"]]  # encoded anew, and kept
        encoder.clear()
        assert MemoryAgent.load(tmp_path).ask("tea?").text == "Ann likes tea."
        assert encoder == [["tea"]]  # the raw text was not encoded again
        offered = {tool["function"]["name"] for body in bodies for tool in body["tools"]}
        assert {"bm25", "embedding"} <= offered
        plain = agent_at(url, raw_search=False)
        del bodies[:]
        plain.ask("tea?")
        assert not {"bm25", "embedding"} & {tool["function"]["name"] for tool in bodies[0]["tools"]}
    (tmp_path / "index.npz").write_bytes(b"damaged")
    with pytest.raises(RunError, match="index.npz: not an index"):
        MemoryAgent.load(tmp_path)


def test_a_name_of_a_file_is_not_taken_for_a_text(tmp_path, monkeypatch):
    (tmp_path / "chat.txt").write_text("Ann likes tea.")
    monkeypatch.chdir(tmp_path)
    with MemoryServer(True).run() as (url, _):
        agent = agent_at(url)
        with pytest.raises(RunError, match=r"write Path\('chat.txt'\)"):
            agent.read("chat.txt")
        assert len(agent.read(Path("chat.txt"))) == 1 and len(agent.read("x" * 5000)) > 1


def test_instructions_are_added_and_models_are_found_from_anywhere(tmp_path, tiny_policy, monkeypatch):
    with MemoryServer(True).run() as (url, bodies):
        agent = agent_at(url, instructions="Store names.", wording="In one word.")
        agent.read("Ann likes tea.")
        agent.ask("What does Ann like?")
        assert bodies[0]["messages"][0]["content"].endswith("everything so far. Store names.")
        assert bodies[-1]["messages"][0]["content"].endswith("then call answer. In one word.")
    tiny_policy.model.save_pretrained(tmp_path / "model")
    tiny_policy.tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    MemoryAgent("model", session_tokens=1200, core_tokens=50).save("memory")
    monkeypatch.chdir("/")
    assert MemoryAgent.load(tmp_path / "memory").config.model == str(tmp_path / "model")


def test_texts_of_any_kind_are_read_and_what_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with MemoryServer(True).run() as (url, _):
        agent = agent_at(url)
        agent.save("memory")
        monkeypatch.chdir("/")  # the folder stays where it was
        agent.read("Ann likes tea \ud800\nBob likes milk", source="x")
        agent.ask("What does \udfff like?")
        again = MemoryAgent.load(tmp_path / "memory")
        assert again.chunks == agent.chunks == ["Ann likes tea \ufffd\nBob likes milk"]
        assert again.read("Ann likes tea \ud800\nBob likes milk", source="x") == []
        (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfCy likes figs\r\nDi likes rice\r\n")
        (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf[{"content": "Ed likes kale"}]')
        agent.read(tmp_path / "a.txt")
        agent.read(tmp_path / "a.json")
        assert agent.chunks[1:] == ["Cy likes figs\nDi likes rice\n", "Ed likes kale"]
        assert agent.read("") == agent.read([]) == agent.read(" \n\n") == []
        refused = (None, "a NoneType cannot"), (b"x", "a bytes cannot"), ({}, "a dict cannot"), ([1], "message 1")
        for what, said in refused:
            with pytest.raises(RunError, match=said):
                agent.read(what)
        for question in (None, "", " "):
            with pytest.raises(RunError, match="give a question"):
                agent.ask(question)
        (tmp_path / "memory" / "history.jsonl").unlink()
        with pytest.raises(RunError, match="history.jsonl: no such file"):
            agent.read("Flo likes peas")


def test_coroutines_share_one_memory():
    async def use(agent: MemoryAgent) -> list[str]:
        await agent.aread(CHAT[:5])
        return [str(a) for a in await asyncio.gather(*(agent.aask(f"What does Ann{k} like?") for k in range(5)))]

    with MemoryServer(True).run() as (url, _):
        assert asyncio.run(use(agent_at(url))) == [f"thing{k}" for k in range(5)]


def test_a_local_model_reads_and_answers(tiny_policy):
    agent = MemoryAgent(engine=tiny_policy, session_tokens=1200, turn_tokens=20, core_tokens=50)
    traces = agent.read("Ann likes tea.\n" * 30)
    assert traces and "".join(agent.chunks).count("tea") == 30
    assert all(tiny_policy.count(chunk) <= agent.room for chunk in agent.chunks)
    answer = agent.ask("What does Ann like?")
    assert answer.trace.tokens.written == answer.trace.written > 0


# --- kills and full disks -----------------------------------------------------------------------------------------

READER = """
import sys, json
from pathlib import Path
from uma_lib import MemoryAgent
folder, url = Path(sys.argv[1]), sys.argv[2]
if not (folder / "agent.json").exists():
    MemoryAgent(url, name="m", session_tokens=2500, chunk_tokens=60, native_tools=json.loads(sys.argv[3])).save(folder)
MemoryAgent.load(folder).read(Path(sys.argv[4]))
"""


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("at", [1, 2, 5, 8])  # requests after which it is killed: between turns, between chunks
def test_a_kill_loses_the_chunk_in_hand_at_most(at, native, tmp_path):
    chat, folder, script = tmp_path / "chat.json", tmp_path / "memory", MemoryServer(native)
    chat.write_text(json.dumps(CHAT))

    def held(body, number, headers):
        if number > at and not script.faults:
            time.sleep(30 if number == at + 1 else 0)
        return script(body, number, headers)

    with server(held) as (url, bodies):
        words = [sys.executable, "-c", READER, str(folder), url, json.dumps(native), str(chat)]
        process = subprocess.Popen(words)
        until = time.monotonic() + 60
        while len(bodies) <= at and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept = (folder / "history.jsonl").read_text().splitlines()
        assert len(kept) == at // 2  # two turns a chunk: every whole chunk is there
        with open(folder / "history.jsonl", "a") as file:
            file.write('{"chunk": "torn')  # as a kill within the write leaves it
        subprocess.run(words, check=True)
    agent = MemoryAgent.load(folder)
    assert "\n".join(agent.chunks) == "\n".join(units_of(CHAT))
    assert dict(agent.memory.bank.items()) == {f"Ann{k}": f"thing{k}" for k in range(30)}
    assert agent.memory.core.text == "30 facts"


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    with MemoryServer(True).run() as (url, _):
        agent = agent_at(url)
        agent.save(tmp_path)
        first = agent.read(CHAT[:10], source="chat")
        before, real = agent.memory.core.text, os.fsync

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="history.jsonl: the disk is full"):
            agent.read(CHAT, source="chat")
        assert agent.memory.core.text == before and len(agent.chunks) == len(first)
        monkeypatch.setattr(os, "fsync", real)
        agent.read(CHAT, source="chat")
        assert len(agent.memory.bank) == 30
    again = MemoryAgent.load(tmp_path)
    assert "\n".join(again.chunks) == "\n".join(units_of(CHAT)) and again.memory.core.text == "30 facts"


def test_two_writers_do_not_mix(tmp_path):
    with MemoryServer(True).run() as (url, _):
        one = agent_at(url)
        one.save(tmp_path)
        other = MemoryAgent.load(tmp_path)
        one.read("Ann likes tea.")
        with pytest.raises(RunError, match="changed by somebody else"):
            other.read("Bob likes tea.")
        assert len(MemoryAgent.load(tmp_path).chunks) == 1
        with pytest.raises(RunError, match="holds a memory already"):
            agent_at(url).save(tmp_path)


def test_a_server_that_is_gone_keeps_what_was_read(tmp_path):
    script = MemoryServer(True, [None] * 4 + [(401, {"error": "key"})])
    with script.run() as (url, _):
        agent = agent_at(url)
        agent.save(tmp_path)
        with pytest.raises(RunError, match="HTTP 401"):
            agent.read(CHAT, source="chat")
        assert len(agent.chunks) == 2 == len((tmp_path / "history.jsonl").read_text().splitlines())
        agent.read(CHAT, source="chat")
        assert len(agent.memory.bank) == 30


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("agent.json", "{}", "agent.json: not the settings of a memory"),
        ("agent.json", "[", "agent.json: not valid JSON"),
        ("history.jsonl", "[1]\n", "history.jsonl:1: not a record"),
        ("history.jsonl", '{"chunk": "a", "core": "", "changes": [["a", "1", "a", "2"]]}\n', "history.jsonl:1: not a"),
        ("history.jsonl", None, "history.jsonl: no such file"),
    ],
)
def test_damaged_folders_are_named(file, content, said, tmp_path):
    MemoryAgent(engine=Remote("http://localhost:1/v1", "m")).save(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(RunError, match=said):
        MemoryAgent.load(tmp_path, engine=Remote("http://localhost:1/v1", "m"))


# --- texts --------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(alphabet="ab \n.", max_size=40), max_size=8),
    st.integers(2, 30),
    st.sampled_from([len, lambda text: len(text.split()), lambda text: len(text.encode()) // 3]),
)
def test_chunks_hold_the_whole_text_in_order_and_fit(units, limit, count):
    text = "\n".join(units)
    spans = list(chunks_of(text, units, count, limit))
    assert all(0 <= a < b <= len(text) for a, b in spans)
    assert all(b <= c for (_, b), (c, _) in zip(spans, spans[1:], strict=False))
    assert all(count(text[a:b]) <= limit and text[a:b].strip() for a, b in spans)
    left = "".join(text[b:a] for (_, b), (a, _) in zip([(0, 0), *spans], [*spans, (len(text), 0)], strict=True))
    assert not left.strip()
    # what is read later is cut as if it stood alone
    if spans:
        start = spans[0][1] + 1
        assert "".join("".join(text[a:b] for a, b in chunks_of(text, units, count, limit, start)).split()) == "".join(
            text[start:].split()
        )


def test_chunks_end_with_messages_where_they_can():
    units = ["a b c\nd", "e f", "g\nh"]
    text = "\n".join(units)
    cut = [text[a:b] for a, b in chunks_of(text, units, lambda text: len(text.split()), 6)]
    assert cut == ["a b c\nd", "e f", "g\nh"] or cut == ["a b c\nd", "e f\ng\nh"]


TREE = {
    "current_node": "3",
    "mapping": {
        "0": {"message": None, "parent": None},
        "1": {
            "message": {"author": {"role": "user"}, "content": {"parts": ["Hi", {}]}, "create_time": 0}, "parent": "0",
        },
        "2": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["left"]}}, "parent": "1"},
        "3": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["Hello"]}}, "parent": "1"},
    },
}


@pytest.mark.parametrize(
    ("name", "content", "units"),
    [
        ("a.json", [{"role": "user", "content": "Hi"}], ["user: Hi"]),
        ("a.json", {"messages": [{"from": "Ann", "text": "Hi", "date": "2024-05-01"}]}, ["[2024-05-01] Ann: Hi"]),
        ("a.json", [[{"content": "a"}], [{"content": "b"}]], ["a", "b"]),
        ("a.json", [TREE], ["[1970-01-01 00:00] user: Hi", "assistant: Hello"]),
        ("a.json", [{"content": None, "tool_calls": [{}]}, {"content": "b"}], ["b"]),
        ("a.jsonl", '{"content": "a"}\n\n{"role": "x", "content": [{"type": "text", "text": "b"}]}\n', ["a", "x: b"]),
    ],
)
def test_chat_exports(name, content, units, tmp_path):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert units_of(messages_in(path)) == units


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{}", "no chat export that is known"), ("a.json", "[[[1]]]", "no chat export that is known"),
        ("a.json", '{"mapping": {"a": 1}}', "no chat export"), ("a.json", "[", "not valid JSON"),
        ("a.txt", b"Zo\xeb", "save it as UTF-8"),
        ("a.jsonl", "{}\n[", "a.jsonl:2: not a line of JSON"), ("b.txt", None, "no such file"),
        ("a.json", '[{"content": null, "text": 3}]', "message 1 has no text"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read(name, content, said, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    agent = MemoryAgent(engine=Remote("http://localhost:1/v1", "m"))
    with pytest.raises(RunError, match=said):
        agent.read(tmp_path / name)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "no model is named"), ({"model": "http://localhost:1/v1#"}, "name its model"),
        ({"model": "http://localhost:1/v1"}, "is a server: name its model"),
        ({"model": "data/none"}, "no model folder"), ({"modl": "x"}, "did you mean 'model'"),
        ({"model": "gone/a.gguf"}, "a.gguf|gone"), ({"session_tokens": 0}, "session_tokens is 0"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(values, said):
    with pytest.raises(RunError, match=said):
        MemoryAgent(**values)


def test_a_budget_without_room_for_chunks_is_named():
    agent = MemoryAgent(engine=Remote("http://localhost:1/v1", "m"), session_tokens=900)
    with pytest.raises(RunError, match="leaves no room for a chunk"):
        agent.read("text")


# --- what people see ----------------------------------------------------------------------------------------------


def test_html_is_escaped_and_cut():
    from uma_lib.agents.agent import Trace
    from uma_lib.memory import Diff, Memory

    evil = "<script>alert(1)</script>" + "x" * 10_000
    memory = Memory()
    memory.bank.add("<b>", "<i>")
    memory.core.write("<u>core</u>")
    for index in range(500):
        memory.bank.add(f"k{index}", "v")
    messages = [{"role": role, "content": evil} for role in ("system", "assistant")]
    trace = Trace("question", messages, answer=evil)
    shown = [memory, memory.bank, Diff(added={evil: evil}, removed={"<b>": "1"}), trace, Diff()]
    for one in shown:
        html = one._repr_html_()
        assert "<script>" not in html and "<b><" not in html and "<i>" not in html and len(html) < 60_000
        assert html.count("<details") == html.count("</details>") and html.count("<tr") == html.count("</tr>")
    assert "and 301 more" in memory.bank._repr_html_()
    assert repr(trace).startswith("Trace(question: 1 turns, 0 of 0 calls valid") and "budget=1000" in repr(memory.core)
    assert repr(memory).startswith("Memory(core='<u>core") and "501 entries" in repr(memory.bank)
    agent = MemoryAgent(engine=Remote("http://localhost:1/v1", "m"))
    assert "0 chunks" in repr(agent) and "Core memory" in agent._repr_html_()


def test_importing_the_package_takes_no_time():
    code = "import sys, time; t = time.perf_counter(); import uma_lib; print(time.perf_counter() - t)"
    assert float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) < 0.3
    light = "import sys; from uma_lib import MemoryAgent; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    with pytest.raises(AttributeError, match="nothing"):
        _ = uma_lib.nothing
    assert uma_lib.MemoryAgent is MemoryAgent and Path(uma_lib.__file__).name == "__init__.py"
