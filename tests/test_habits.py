"""Measures of habits: right for a policy without fault, wrong where a fault is planted."""

from decimal import Decimal

from uma_lib.ledger import Expense, Question, Session
from uma_lib.ledger.schema import amounts_in
from uma_lib.memory import Result
from uma_lib.nano.habits import AnalysisConfig, describe, memory_session_habits, question_session_habits
from uma_lib.scoring import Gold
from uma_lib.tools import ToolCall


def expense(category, amount, turn=0):
    return Expense(0, turn, "2024-05-01", category, "x", Decimal(amount))


SESSION = Session(
    0, "2024-05-01", "", (expense("Dining", 12), expense("Dining", 7), expense("Medical", 3)), (expense("Other", 9),)
)
RIGHT = {"2024-05-01 Dining": "12+7", "2024-05-01 Medical": "3"}


def test_memory_habits():
    assert set(memory_session_habits(SESSION, RIGHT, "total 10", "total 32").values()) == {True}
    one_lost = memory_session_habits(SESSION, {**RIGHT, "2024-05-01 Dining": "7"}, "total 10", "total 10")
    assert one_lost == {"exact": False, "keeps_total": False, "reads_all": True, "ignores_plans": True, "merges": False}
    planned = memory_session_habits(SESSION, {**RIGHT, "2024-05-01 Other": "9"}, "", "total 22")
    assert planned["ignores_plans"] is False and planned["keeps_total"] is True and planned["exact"] is False
    missing = memory_session_habits(SESSION, {"2024-05-01 Dining": "7+12"}, "", "")
    assert missing["reads_all"] is False and missing["merges"] is True
    assert amounts_in("about 5") is None and amounts_in("1+2") == {Decimal(1): 1, Decimal(2): 1}


def test_question_habits():
    gold = Gold("amount", ("5",))
    question = Question("categories_range", "?", gold, (), ("Dining", "Other"), "2024-05-01", "2024-05-03")

    def lists(*arguments):
        return [(ToolCall("list", a, None), Result(True, "", None)) for a in arguments]

    dates = {"start": "2024-05-01", "end": "2024-05-03"}
    right = question_session_habits(question, lists({"filter": "Dining", **dates}, {"filter": "Other", **dates}))
    assert right == {"ranges": True, "all_categories": True}
    wrong = question_session_habits(question, lists({"filter": "Dining"}))
    assert wrong == {"ranges": False, "all_categories": False}
    assert question_session_habits(question, []) == {"ranges": False, "all_categories": False}


def test_describe_an_untrained_policy(tiny_policy):
    config = AnalysisConfig(sessions=2, streams=2, transcripts=1)
    measures, transcripts = describe(tiny_policy, config)
    assert measures["accuracy"]["all"]["n"] >= 14 and measures["accuracy"]["all"]["share"] < 0.5
    (one,) = transcripts
    assert len(one["sessions"]) == 2 and one["sessions"][0]["written"] and one["questions"][0]["gold"]
