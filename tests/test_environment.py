"""Sessions of both phases: what they accept, what they refuse, and that nothing a model writes breaks them."""

import random

import numpy as np
import pytest

from uma_lib.environment import MEMORY_SCHEMAS, QUESTION_SCHEMAS, Limits, MemorySession, QuestionSession
from uma_lib.ledger import Stream
from uma_lib.ledger.dataset import guide
from uma_lib.memory import CoreMemory, Memory
from uma_lib.nano.script import Demonstrator, Habits
from uma_lib.retrieval import RetrievalIndex
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
        lambda told: MemorySession(Memory(), CHUNK, Limits(), told),
        lambda told: QuestionSession(Memory(), "How much did I spend on coffee?", Limits(), told),
    ):
        told = [made(guide(True, scenes)).messages[0]["content"] for scenes in (False, True)]
        assert "with what they were for" not in told[0] and "12.50 coffee + 8 a taxi" in told[1]
        free = [made(guide(False, scenes)).messages[0]["content"] for scenes in (False, True)]
        assert free[0] == free[1]


def kept(core: str = "total 30") -> Memory:
    memory = Memory(CoreMemory(core))
    memory.bank.add("2024-03-01 Dining", "30")
    return memory


@pytest.mark.parametrize("after", [ADD, '<tool_call>{"name": "add', COMMIT.replace("12", "13")])
def test_calls_after_the_terminal_one_are_not_run_and_count_as_failed(after):
    memory = kept()
    session = MemorySession(memory, CHUNK, Limits())
    assert session.step(f"{COMMIT}\n{after}") is None and session.finished
    assert len(memory.bank) == 1 and memory.core.text == "total 12"
    assert [(result.ok, result.error) for _, result in session.calls] == [(True, None), (False, "limit")]
    assert "update_core has ended the session" in session.calls[1][1].text and session.valid_calls == 1

    session = QuestionSession(memory, "How much?", Limits())
    assert session.step(render_call("answer", text="30") + render_call("answer", text="31")) is None
    assert session.answer == "30" and session.valid_calls == 1 and len(session.calls) == 2


def test_calls_after_a_terminal_one_that_failed_are_run():
    memory = Memory(CoreMemory("old", budget=3))
    session = MemorySession(memory, CHUNK, Limits())
    too_long, added = session.step(render_call("update_core", text="far too many words here") + ADD)
    assert "at most 3" in too_long and added == "ok" and not session.finished


@pytest.mark.parametrize(
    ("turn", "core"),
    [
        ("<think>Nothing bought.</think>\nTotal 30.", "Total 30."),
        ("Nothing bought.\n</think>\n\nTotal 30.", "Total 30."),
        ("[THINK]Nothing bought.[/THINK]Total 30.", "Total 30."),
        (f"<think>Or {render_call('delete', key='2024-03-01 Dining')}?</think>\nTotal 30.", "Total 30."),
        (f"Or {render_call('delete', key='2024-03-01 Dining')}?</think>\nTotal 30.", "Total 30."),
        ("<thinking>A <tool_call> is not needed.</thinking>\nTotal 30.", "Total 30."),
        (f"<think>It is {COMMIT}</think>{render_call('update_core', text='Total 30.')}", "Total 30."),
        ('{"total": 30}', '{"total": 30}'),
    ],
)
def test_what_is_spoken_becomes_the_core_and_thought_does_nothing(turn, core):
    memory = kept()
    session = MemorySession(memory, CHUNK, Limits())
    assert session.step(turn) is None and session.finished and session.valid_calls == len(session.calls)
    assert memory.core.text == core and dict(memory.bank.items()) == {"2024-03-01 Dining": "30"}


@pytest.mark.parametrize(
    "turn",
    [
        "<think>Nothing bought. Total 31.",
        f"<think>I add it. {ADD} {COMMIT}",
        "<think>Nothing bought.</think>",
        '{"name": "add", "parameters": {"key": "k", "value": "1}}',
        'I call {"name": "update_core", "arguments": {"text": "total 31"}} now.',
        "<tools>add k 1</tools>",
        '[{"name": 3, "arguments": {}}, "junk"]',
        'list(filter="Dining")',
        "x" * 200_001,
        f"{ADD}{'x' * 200_001}",
    ],
)
def test_what_cannot_be_read_is_shown_to_the_model_and_changes_nothing(turn):
    memory = kept()
    session = MemorySession(memory, CHUNK, Limits())
    results = session.step(turn)
    assert results and all(result.startswith("error: ") for result in results)
    assert not session.done and session.valid_calls == 0 and len(session.calls) == len(results)
    assert memory.core.text == "total 30" and dict(memory.bank.items()) == {"2024-03-01 Dining": "30"}
    question = QuestionSession(memory, "?", Limits())
    assert question.step(turn) and question.answer is None and not question.done


CUT = [
    '<tool_call>\n{"name":"add","arguments":{"key":"k","value":12',
    '{"name":"add","arguments":{"key":"k","value":"1"}',
    '<tool_call>{"name":"update_core","arguments":{"text":"total 3"}',
    '<tool_call>{"name":"answer","arguments":{"text":12',
    "<think>It is 7",
    "The total is 3",
    r"It is \boxed{3}",
]


@pytest.mark.parametrize("turn", CUT)
def test_what_was_cut_changes_nothing(turn):
    memory = kept()
    session, question = MemorySession(memory, CHUNK, Limits()), QuestionSession(memory, "?", Limits())
    for played in (session, question):
        assert played.step(turn, stopped=False) is None and not played.finished and played.valid_calls == 0
    assert memory.core.text == "total 30" and len(memory.bank) == 1 and question.answer is None
    whole = MemorySession(memory, CHUNK, Limits())
    whole.step(ADD + turn, stopped=False)
    assert dict(memory.bank.items()) == {"2024-03-01 Dining": "30", "2024-05-01 Dining": "12"}


def test_lost_arguments_are_read_or_reported():
    memory = kept()
    memory.bank.add("rent", "900")
    given = '{"filter": "dining"}'
    for fields in ('"filter": "dining"', f'"args": {given}', f'"arguments": null, "input": {given}'):
        session = QuestionSession(memory, "?", Limits())
        assert session.step(f'<tool_call>{{"name": "list", {fields}}}</tool_call>') == ["2024-03-01 Dining: 30"]
    session = QuestionSession(memory, "?", Limits())
    assert "takes filter, start, end, not 'when'" in session.step('{"name": "list", "when": "now"}')[0]


def test_every_parameter_of_every_tool_is_described():
    for tool in [*MEMORY_SCHEMAS, *QUESTION_SCHEMAS]:
        function = tool["function"]
        assert function["description"].endswith(".") and "Args" not in function["description"]
        for name, parameter in function["parameters"]["properties"].items():
            assert parameter.get("description"), (function["name"], name)


def test_search_is_offered_where_there_is_text_to_search():
    index = RetrievalIndex(lambda texts: np.ones((len(texts), 1)))
    index.add_chunk(CHUNK)
    for given, names in ((None, "retrieve list answer"), (index, "retrieve list bm25 embedding answer")):
        session = QuestionSession(Memory(), "?", Limits(), index=given)
        assert " ".join(tool["function"]["name"] for tool in session.schemas) == names
        known, found = session.step(render_call("search", text="a") + render_call("bm25", query="coffee"))
        assert known.endswith("the tools are " + names.replace(" ", ", "))
        assert found == (CHUNK if given else "error: no raw text is kept for this stream")


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
        ("<think>30+40=70</think>\n70", "70"),
        ("30+40=70</think>70", "70"),
        ("<reasoning>perhaps \\boxed{3}</reasoning>70", "70"),
        ('{"name": "answer", "parameters": {"text": "70"}}', "70"),
        ("<function=answer><parameter=text>70</parameter></function>", "70"),
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
            MemorySession(memory, CHUNK, Limits(), guide(given)),
            QuestionSession(memory, "How?", Limits(), guide(given)),
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
