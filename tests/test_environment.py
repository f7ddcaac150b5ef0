"""Sessions of both phases: what they accept, what they refuse, and that nothing a model writes breaks them."""

import random

import pytest

from uma_lib.demonstrator import Demonstrator, Habits
from uma_lib.environment import Limits, Memory, MemorySession, QuestionSession
from uma_lib.ledger import Stream
from uma_lib.memory import CoreMemory
from uma_lib.scoring import score
from uma_lib.tools import render_call

CHUNK = '[2024-05-01] User said, "Paid $12 for coffee."'
ADD = render_call("add", key="2024-05-01 Dining", value="12")
COMMIT = render_call("update_core", text="total 12")


def test_a_session_ends_with_update_core():
    memory = Memory()
    session = MemorySession(memory, CHUNK, Limits())
    assert session.step(ADD) == ["ok"] and not session.done
    assert session.step(COMMIT) is None and session.done and session.finished
    assert memory.core.text == "total 12" and dict(memory.bank.items()) == {"2024-05-01 Dining": "12"}
    assert session.valid_calls == len(session.calls) == 2
    with pytest.raises(RuntimeError):
        session.step(ADD)


def test_entries_have_a_place_for_scenes_where_questions_are_about_them():
    for made in (
        lambda **more: MemorySession(Memory(), CHUNK, Limits(), **more),
        lambda **more: QuestionSession(Memory(), "How much did I spend on coffee?", Limits(), **more),
    ):
        told = [made(scenes=scenes).messages[0]["content"] for scenes in (False, True)]
        assert "with what they were for" not in told[0] and "12.50 coffee + 8 a taxi" in told[1]
        free = [made(scenes=scenes, schema_given=False).messages[0]["content"] for scenes in (False, True)]
        assert free[0] == free[1]


def test_calls_after_the_terminal_one_are_not_run():
    memory = Memory()
    session = MemorySession(memory, CHUNK, Limits())
    session.step(COMMIT + "\n" + ADD)
    assert len(memory.bank) == 0 and [result.ok for _, result in session.calls] == [True, False]


def test_final_text_becomes_the_core_but_an_unfinished_session_keeps_the_old_one():
    memory = Memory(CoreMemory("old"))
    MemorySession(memory, CHUNK, Limits()).step("new summary")
    assert memory.core.text == "new summary"
    for text, stopped in (("", True), ("cut off in the mid", False), (ADD, False)):
        session = MemorySession(memory, CHUNK, Limits())
        assert session.step(text, stopped) is None and not session.finished
        assert memory.core.text == "new summary"


def test_a_core_over_budget_is_refused_and_can_be_written_again():
    memory = Memory(CoreMemory("old", budget=3))
    session = MemorySession(memory, CHUNK, Limits())
    (result,) = session.step(render_call("update_core", text="far too many words here"))
    assert "error" in result and memory.core.text == "old"
    assert session.step(render_call("update_core", text="short")) is None and memory.core.text == "short"


def test_limits_hold():
    session = MemorySession(Memory(), CHUNK, Limits(turns=2, calls_per_turn=3))
    results = session.step("\n".join(render_call("add", key=f"k{i}", value="1") for i in range(5)))
    assert results[:3] == ["ok"] * 3 and all("error" in r for r in results[3:])
    assert session.step(ADD) is None and session.done and not session.finished

    memory = Memory()
    for i in range(500):
        memory.bank.add(f"2024-05-01 entry {i}", "12")
    (listing,) = QuestionSession(memory, "?", Limits(result_chars=300)).step(render_call("list"))
    assert len(listing) <= 300 and "more" in listing


@pytest.mark.parametrize(
    ("turn", "answer"),
    [
        (render_call("answer", text="12.50"), "12.50"),
        ("The sum is \\boxed{12.50}.", "12.50"),
        ("12.50", "12.50"),
        (render_call("answer", text="\\boxed{12.50}"), "12.50"),
        ("", None),
    ],
)
def test_answers(turn, answer):
    session = QuestionSession(Memory(), "How much?", Limits())
    assert session.step(turn) is None and session.answer == answer


def test_questions_cannot_change_the_memory():
    memory = Memory()
    memory.bank.add("a", "1")
    session = QuestionSession(memory, "?", Limits())
    results = session.step("\n".join([render_call("add", key="b", value="2"), render_call("delete", key="a"), COMMIT]))
    assert all("error" in r for r in results) and dict(memory.bank.items()) == {"a": "1"} and memory.core.text == ""


def test_both_prompt_variants_show_core_and_input():
    memory = Memory(CoreMemory("total 5"))
    for given in (True, False):
        for session in (
            MemorySession(memory, CHUNK, Limits(), given),
            QuestionSession(memory, "How?", Limits(), given),
        ):
            system, user = session.messages
            assert ("YYYY-MM-DD Category" in system["content"]) is given
            assert "total 5" in user["content"] and (CHUNK in user["content"] or "How?" in user["content"])


def mutated(rng: random.Random, text: str) -> str:
    """A model output with some damage."""
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(text) + 1)
        until = min(len(text), at + rng.randint(0, 20))
        text = rng.choice(
            (
                text[:at] + text[until:],
                text[:at]
                + rng.choice(('"', "}", "{", "<tool_call>", "</tool_call>", "\\", "null", "\n", "é", "\x00", "12"))
                + text[at:],
                text[:until] + text[at:],
                text[:at],
            )
        )
    return text


def test_nothing_that_a_model_writes_breaks_parser_or_environment():
    """More than 10,000 mutated and random turns of real sessions: no exception, every invariant holds."""
    rng = random.Random(0)
    budget, turns = 6, 0
    noise = [chr(c) for c in range(32, 127)] + [
        "<tool_call>",
        "</tool_call>",
        '{"name": "',
        '"arguments": {',
        "\n",
    ]
    while turns < 10_000:
        stream = Stream("small", "test", 4, rng.randrange(10_000))
        memory = Memory(CoreMemory(budget=budget))
        demonstrator = Demonstrator(Habits(), rng)
        for chunk in stream:
            session = MemorySession(memory, chunk.text, Limits(turns=4, calls_per_turn=3, result_chars=200))
            said = list(demonstrator.memory_turns(chunk, memory.core.text))
            while not session.done:
                before, version, core = dict(memory.bank.items()), memory.bank.version, memory.core.text
                text = mutated(rng, rng.choice(said)) if rng.random() < 0.9 else "".join(rng.choices(noise, k=60))
                calls_before = len(session.calls)
                results = session.step(text, stopped=rng.random() < 0.95)
                turns += 1
                made = session.calls[calls_before:]
                assert all(len(r) <= 200 for r in results or [])
                assert len(memory.core.text.split()) <= budget
                if not any(result.ok and call.name in ("add", "update", "delete") for call, result in made):
                    assert dict(memory.bank.items()) == before and memory.bank.version == version
                if not session.finished:
                    assert memory.core.text == core
                assert len(set(memory.bank)) == len(memory.bank) == len(memory.bank.at(memory.bank.version))
                assert 0 <= session.valid_calls <= len(session.calls)
        for question in stream.questions():
            session = QuestionSession(memory, question.text, Limits(turns=3, result_chars=200))
            before = dict(memory.bank.items())
            while not session.done:
                session.step(mutated(rng, render_call("list", filter="Dining")))
                turns += 1
            assert dict(memory.bank.items()) == before
            assert score(session.answer or "", question.gold) in (0.0, 1.0)


def test_demonstrator_with_perfect_habits_is_always_right():
    agent = Demonstrator(Habits.perfect(), random.Random(0))
    for size, sessions in (("small", 1), ("small", 5), ("small", 40), ("standard", 6)):
        for index in range(5):
            stream = Stream(size, "test", sessions, index)
            memory = agent.keep(stream)
            for question in stream.questions(2):
                if question.kind != "scene_date":  # entries by date and category hold no scene
                    assert score(agent.ask(memory, question) or "", question.gold) == 1.0, question


def test_demonstrator_with_its_own_habits_is_often_wrong():
    agent = Demonstrator(Habits(), random.Random(0))
    scores = [
        score(agent.ask(memory, question) or "", question.gold)
        for index in range(30)
        for stream in [Stream("small", "test", 10, index)]
        for memory in [agent.keep(stream)]
        for question in stream.questions()
    ]
    assert 0.2 < sum(scores) / len(scores) < 0.5
