"""The mechanics of each agent that keeps or reads in its own way, against what its paper says of it."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from tests.contracts import FaithfulEngine, Says
from uma_lib.agents.a_mem import LINKS, AMem, texts
from uma_lib.agents.agent import Setting
from uma_lib.agents.all import KINDS
from uma_lib.agents.mem1 import MEM1
from uma_lib.agents.mem_alpha import MemAlpha
from uma_lib.agents.memagent import MEMORY_TOKENS, SEGMENT_TOKENS, MemAgent, MemAgentWithoutQuestion
from uma_lib.agents.readers import ANSWER_TOKENS, RAG, Concat
from uma_lib.environment import Limits
from uma_lib.files import RunError
from uma_lib.prompts import GENERAL
from uma_lib.tools import render_call

from .test_readers import encode


def setting_of(engine, limits=None, **more):
    return Setting(limits or Limits(session_tokens=4000), GENERAL, ("k", 0), engine.count, engine.size, encode, **more)


def read(engine, agent, chunks):
    return [engine.generate([agent.observe(chunk)], temperature=0.0)[0] for chunk in chunks]


def ask(engine, agent, question):
    return engine.generate([agent.answer(question)], temperature=0.0)[0]


def stream(chunks, words, seed=0):
    """Chunks of words of which none stands twice."""
    return [" ".join(f"w{seed}x{k}x{n}" for n in range(words)) for k in range(chunks)]


# --- MemAgent -----------------------------------------------------------------------------------------------------


def memory_in(messages):
    text = messages[-1]["content"]
    return text.partition("Memory:\n")[2].partition("\nNew part:\n")[0].partition("\nQuestion: ")[0]


def test_memagent_reads_each_segment_once_a_question_and_keeps_its_budget():
    def talks_too_much(messages, tools):
        return "I remember " + "much " * 9000 if "New part:" in messages[-1]["content"] else "\\boxed{7}"

    engine = Says(talks_too_much)
    agent = MemAgent(setting_of(engine, Limits(session_tokens=16_000, turn_tokens=8000)))
    chunks = stream(60, 300)
    assert all(not trace.parts and trace.written == 0 for trace in read(engine, agent, chunks)) and not engine.seen
    words = [word for chunk in chunks for word in chunk.split()]
    for question in ("What is it?", "And this?"):
        engine.seen.clear()
        trace = ask(engine, agent, question)
        *segments, last = engine.seen
        parts = [messages[-1]["content"].partition("New part:\n")[2] for messages in segments]
        assert [word for part in parts for word in part.split()] == words  # each once, in order
        assert max(len(part.split()) for part in parts) <= SEGMENT_TOKENS and len(parts) == 4
        assert all(question in messages[-1]["content"] for messages in engine.seen)
        assert all(engine.count(memory_in(messages)) <= MEMORY_TOKENS for messages in segments)
        assert memory_in(segments[0]) == "(empty)" and memory_in(segments[1]).startswith("I remember")
        assert trace.answer == "7" and len(trace.parts) == 4 and len(trace.sessions) == 5
        assert trace.cost[0] == sum(engine.size(messages, None) for messages in engine.seen)
        assert all(engine.count(part.core) <= MEMORY_TOKENS for part in trace.parts)
        assert "New part:" not in last[-1]["content"]


def test_memagent_without_the_question_reads_once_for_all():
    engine = Says(lambda messages, tools: f"noted {len(engine.seen)}")
    agent = MemAgentWithoutQuestion(setting_of(engine))
    traces = read(engine, agent, stream(3, 50))
    assert [trace.core for trace in traces] == ["noted 1", "noted 2", "noted 3"] and agent.memory == "noted 3"
    for _ in range(2):
        ask(engine, agent, "What?")
    assert len(engine.seen) == 5 and agent.memory == "noted 3"
    assert not any("What?" in messages[-1]["content"] for messages in engine.seen[:3])


def test_an_empty_or_thought_memory_leaves_the_old_one():
    replies = iter(["first", "", "<think>hm</think>", "<think>never ends", "last"])
    engine = Says(lambda messages, tools: next(replies))
    agent = MemAgentWithoutQuestion(setting_of(engine))
    assert [trace.core for trace in read(engine, agent, stream(5, 5))] == ["first", "first", "first", "first", "last"]


def test_a_budget_without_room_is_refused():
    engine = FaithfulEngine()
    agent = MemAgent(setting_of(engine, Limits(session_tokens=80)))
    read(engine, agent, ["one"])
    with pytest.raises(RunError, match="raise session_tokens"):
        ask(engine, agent, "What?")


# --- MEM1 ---------------------------------------------------------------------------------------------------------


def test_mem1_carries_nothing_but_its_state():
    engine = Says(lambda messages, tools: (
        f"Reasoning with secret{len(engine.seen)}. <IS>draft</IS> Better: <IS>state {len(engine.seen)}</IS> aside"
    ))  # fmt: skip
    agent = MEM1(setting_of(engine))
    chunks = stream(4, 20)
    read(engine, agent, chunks)
    ask(engine, agent, "What?")
    for number, messages in enumerate(engine.seen):
        text = messages[-1]["content"]
        state = f"<IS>{f'state {number}' if number else ''}</IS>"
        rest = f"New part:\n{chunks[number]}" if number < 4 else "Question: What?"
        assert text == f"{state}\n{rest}" and len(messages) == 2
    assert agent.memory == "state 4"


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("no state at all", "old"), ("<IS></IS>", "old"), ("<IS>cut at the", "cut at the"), ("<IS>a</IS><IS>b", "b"),
        ("<think><IS>in thought</IS></think> <IS>c</IS>", "c"),
    ],
)  # fmt: skip
def test_states_of_mem1(said, state):
    engine = Says(lambda messages, tools: said)
    agent = MEM1(setting_of(engine))
    agent.memory = "old"
    read(engine, agent, ["text"])
    assert agent.memory == state


# --- Mem-alpha ----------------------------------------------------------------------------------------------------


def test_memories_of_mem_alpha_change_by_their_operations_alone():
    """Against a model of it: a dict that the same operations are done to."""
    rng, wanted, core, count = random.Random(0), {}, "", 0
    turns = []
    for _ in range(60):
        calls = []
        for _ in range(rng.randrange(4)):
            do, number = rng.choice(["insert", "update", "delete", "core", "bad"]), rng.randrange(1, 12)
            text = f"fact {rng.random()}"
            if do == "insert":
                count += 1
                kind = rng.choice(["episodic", "semantic"])
                wanted[count] = (kind, text)
                calls.append(("memory_insert", {"memory_type": kind, "content": text}))
            elif do == "update":
                calls.append(("memory_update", {"number": number, "content": text}))
                if number in wanted:
                    wanted[number] = (wanted[number][0], text)
            elif do == "delete":
                calls.append(("memory_delete", {"number": number}))
                wanted.pop(number, None)
            elif do == "core":
                core = text
                calls.append(("memory_insert", {"memory_type": "core", "content": text}))
            else:
                calls.append(("memory_insert", {"memory_type": "other", "content": text}))
        turns.append((calls, dict(wanted), core))
    number = -1

    def reply(messages, tools):
        calls = turns[number][0] if messages[-1]["role"] != "tool" else []
        return "I would store this. " + "\n".join(render_call(name, **arguments) for name, arguments in calls)

    engine = Says(reply)
    agent = MemAlpha(setting_of(engine))
    for number, chunk in enumerate(stream(60, 10)):
        (trace,) = read(engine, agent, [chunk])
        _, entries, text = turns[number]
        assert agent.memories.entries == entries and agent.memories.core.text == text == trace.core
    before = agent.memories.state()
    ask(engine, agent, "What?")
    assert agent.memories.state() == before


def test_mem_alpha_finds_what_is_there_now():
    agent = MemAlpha(setting_of(FaithfulEngine()))
    memories = agent.memories
    for text in ("Ida lives in Riga", "Tom lives in Oslo", "It rained"):
        memories.memory_insert("semantic", text)
    memories.memory_update(1, "Ida moved to Bergen")
    memories.memory_delete(2)
    assert memories.search("Riga", 5) == [] and memories.search("Oslo", 5) == []
    assert memories.search("Where is Ida, Bergen?", 5) == [1]


class Broken(Exception):
    pass


@pytest.mark.parametrize("name", ["uma", "mem_alpha", "a_mem", "mem1", "memagent_woq"])
def test_a_session_that_fails_leaves_the_memory_as_it_was(name, tmp_path):
    engine = FaithfulEngine()
    agent = KINDS[name](setting_of(engine))
    read(engine, agent, ["Ann likes tea", "Bob likes milk"])
    agent.save(tmp_path / "before")

    def reply(messages, tools):
        if engine2.seen[1:]:
            raise Broken
        return render_call("memory_insert", memory_type="semantic", content="half") if tools else "half"

    engine2 = Says(reply)
    dialogue = agent.observe("Cy likes figs")
    with pytest.raises((Broken, StopIteration)):
        message = dialogue.send(None)
        turn = engine2.generate([_once(message)], temperature=0.0)[0]
        dialogue.send(turn)
        dialogue.throw(Broken)
    dialogue.close()
    if name in ("mem1", "memagent_woq"):
        return  # they take one turn a chunk: it was whole
    agent.save(tmp_path / "after")
    files = {path.name: path.read_bytes() for path in (tmp_path / "before").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "after").iterdir()}


def _once(message):
    return (yield message)


# --- A-MEM --------------------------------------------------------------------------------------------------------


def test_a_mem_links_exactly_the_nearest_notes():
    rng = np.random.default_rng(1)
    vectors = {}

    def encoder(found):
        for text in found:
            vector = rng.normal(size=8)
            vectors.setdefault(text, vector / np.linalg.norm(vector))
        return np.stack([vectors[text] for text in found])

    def reply(messages, tools):
        new = messages[-1]["content"].partition("New note:\n")[2].split()[0]
        if "Describe" in messages[0]["content"]:
            return json.dumps({"keywords": [new], "context": f"about {new}", "tags": ["t"]})
        return "[]"

    engine = Says(reply)
    agent = AMem(Setting(Limits(session_tokens=4000), GENERAL, ("k", 0), engine.count, engine.size, encoder))
    read(engine, agent, stream(30, 4))
    found = np.stack([vectors[note.text] for note in agent.notes])
    for number, note in enumerate(agent.notes):
        near = np.argsort(-np.round(found[:number] @ found[number], 6), kind="stable")[:LINKS]
        assert note.links == near.tolist()


def test_a_mem_evolves_its_neighbours_and_no_others():
    def reply(messages, tools):
        if "Describe" in messages[0]["content"]:
            return 'Sure: {"keywords": "one, two", "context": "first", "tags": ["a"]}'
        changed = [{"number": 0, "context": "evolved", "tags": ["b"]}, {"number": 77, "context": "no"}, {"number": "x"}]
        return json.dumps(changed)

    engine = Says(reply)
    agent = AMem(setting_of(engine))
    first, second = read(engine, agent, ["short", "longer text"])
    assert agent.notes[0].context == "evolved" and agent.notes[0].tags == ["b"]
    assert agent.notes[1].context == "first" and agent.notes[1].keywords == ["one", "two"]
    assert agent.notes[1].links == [0] and len(second.parts) == 1 and not first.parts
    trace = ask(engine, agent, "What?")
    assert trace.shown == [note.text for note in agent.notes]
    assert texts(["a", 2, None, " "]) == ["a", "2"] and texts(7) == []


# --- RAG and Concat -----------------------------------------------------------------------------------------------


def test_rag_fuses_as_computed_by_hand():
    """By words: A, B. By meaning: B, C, A. So B 1/62 + 1/61, A 1/61 + 1/63, C 1/62."""
    chunks = {"A": "apple apple apple pear", "B": "apple and other things here", "C": "nothing of the kind"}
    angles = {chunks["B"]: 0.1, chunks["C"]: 0.2, chunks["A"]: 0.3, "apple?": 0.0}

    def encoder(found):
        return np.stack([[np.cos(angles[text]), np.sin(angles[text])] for text in found])

    engine = FaithfulEngine()
    orders = {}
    for name in ("rag", "rag_bm25", "rag_dense"):
        agent = KINDS[name](Setting(Limits(), GENERAL, ("k", 0), engine.count, engine.size, encoder))
        read(engine, agent, chunks.values())
        names = {text: letter for letter, text in chunks.items()}
        orders[name] = "".join(names[text] for _, text in agent.ranked("apple?"))
    assert orders == {"rag": "BAC", "rag_bm25": "AB", "rag_dense": "BCA"}


@pytest.mark.parametrize("budget", [600, 777, 1500])
def test_concat_keeps_the_newest_tokens_exactly_to_the_budget(budget):
    engine = Says(lambda messages, tools: "\\boxed{1}")
    agent = Concat(setting_of(engine, Limits(session_tokens=budget), whole=False))
    read(engine, agent, stream(20, 90))
    trace = ask(engine, agent, "What?")
    assert engine.size(engine.seen[0], None) == budget - ANSWER_TOKENS  # a word more would not fit
    shown = "\n".join(trace.shown).split()
    assert shown == " ".join(agent.chunks).split()[-len(shown) :]
    whole = Concat(setting_of(engine, Limits(session_tokens=budget)))
    read(engine, whole, agent.chunks)
    short = ask(engine, whole, "What?").shown
    assert short == agent.chunks[-len(short) :] and len(short) == (budget - ANSWER_TOKENS) // 92


def test_rag_cuts_a_passage_that_alone_does_not_fit():
    engine = Says(lambda messages, tools: "\\boxed{1}")
    chunks = ["a " * 450, "b " * 450]
    agent = RAG(setting_of(engine, Limits(session_tokens=ANSWER_TOKENS + 120), whole=False))
    read(engine, agent, chunks)
    assert ask(engine, agent, "a?").answer == "1"
    assert 100 < engine.size(engine.seen[0], None) <= 120


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in KINDS if name != "question_only"])
@pytest.mark.parametrize("text", ["", "[", "[1]", "{}", '{"memory": 1}', '{"notes": [{}], "found_by": ["a"]}'])
def test_damaged_states_are_refused_in_one_line(name, text, tmp_path):
    engine = FaithfulEngine()
    agent = KINDS[name](setting_of(engine))
    read(engine, agent, ["Ann likes tea"])
    agent.save(tmp_path)
    for path in tmp_path.iterdir():
        if path.suffix in (".json", ".jsonl"):
            path.write_text(text)
    if name == "uma" and not text:
        return  # a history without records is one
    with pytest.raises(RunError) as error:
        KINDS[name](setting_of(engine)).load(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", KINDS)
def test_no_turn_may_be_longer_than_the_limits_say(name):
    """The same limits for everyone: also for those whose papers name a length of their own."""
    longest = []

    class Talkative(FaithfulEngine):
        context_tokens = 100_000

        def generate(self, dialogues, *, temperature, progress=None):
            return super().generate([watched(dialogue) for dialogue in dialogues], temperature=temperature)

        def reply(self, messages, tools):
            return "word " * 500

    def watched(dialogue):
        turn = None
        while True:
            try:
                asked = dialogue.send(turn)
            except StopIteration as end:
                return end.value
            longest.append(asked.max_new)
            turn = yield asked

    engine = Talkative()
    agent = KINDS[name](setting_of(engine, Limits(session_tokens=4000, turn_tokens=30), search=True))
    read(engine, agent, stream(4, 60))
    trace = ask(engine, agent, "What was it?")
    assert longest and max(longest) <= 30 and all(session.written <= 300 for session in trace.sessions)
