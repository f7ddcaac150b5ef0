"""Scores of all kinds of golds: at least 200 answers and what they are worth."""

from __future__ import annotations

import pytest

from uma_lib.metrics import METRICS, exact, f1, keywords, rouge_l, scores, words
from uma_lib.sample import Question
from uma_lib.scoring import Gold

AMOUNT, DATES, CATEGORIES = Gold("amount", ("12.50",)), Gold("dates", ("2024-05-01", "2024-05-03")), Gold(
    "categories", ("Dining", "Medical"))  # fmt: skip
LABEL, NAMED = Gold("label", ("7", "card_arrival")), Gold("label", ("17",))
CHOICE = Gold("choice", ("b", "Not mentioned in the conversations"))
TEXT = Gold("text", ("7 May 2023", "May 7, 2023"))
PERSON, MONEY, MINUS = Gold("text", ("Chief of Protocol",)), Gold("text", ("$12.50",)), Gold("text", ("-5.00",))
JAPANESE = Gold("text", ("東京タワー",))
KEYS = Gold("keywords", ("2 trees", "Riga", "old house"))

EXACT = {  # of each gold the answers that are right and those that are wrong
    AMOUNT: (
        ["12.50", "12.5", "$12.50", "\\boxed{12.50}", "12.50 USD", "I add: \\boxed{12.5}", "+12.50", "12.500",
         "US$12.50",
         "**12.50**"],
        ["", None, "1250", "112.50", "12.505", "-12.50", "12", "12,50", "12.50, 13", "€12.50", "It is 12.50", "15.00",
         "\\boxed{}", "twelve", "12.50-13"],
    ),
    DATES: (
        ["2024-05-01, 2024-05-03", "2024-05-03, 2024-05-01", "2024-05-01 and 2024-05-03",
         "\\boxed{2024-05-01; 2024-05-03}",
         "2024-05-01\n2024-05-03", "- 2024-05-01\n- 2024-05-03", "2024-05-01, 2024-05-03, 2024-05-01",
         "[2024-05-01, 2024-05-03]"],
        ["", None, "2024-05-01", "2024-05-01, 2024-05-02", "2024-05-01, 2024-05-03, 2024-05-04",
         "05/01/2024, 05/03/2024",
         "May 1 and May 3", "2024-05-01 2024-05-03", "all of May"],
    ),
    CATEGORIES: (
        ["Dining, Medical", "medical, dining", "Dining and Medical", "\\boxed{Dining, Medical}", "DINING; MEDICAL",
         "1. Dining\n2. Medical", '["Dining", "Medical"]', "Dining & Medical"],
        ["", None, "Dining", "Dining, Medical, Shopping", "Dining Medical",
         "Dining, Transportation, Shopping, Entertainment, "
         "Utilities, Medical, Education, Other", "food, Medical", "Dinings, Medical", "neither"],
    ),
    LABEL: (
        ["7", "\\boxed{7}", "Label: 7", "label 7", "The label is 7.", "7.", " 7 ", "card_arrival", "card arrival",
         "Card Arrival", "card-arrival", "[7]", "class 7", "Category: 7", "The label number is 7", "'7'", "(7)",
         "intent: 7"],
        ["", None, "17", "77", "7, 8", "7 or 8", "07", "7.0", "It could be 7", "70", "-7 8", "card", "arrival card",
         "label", "Label:", "seven", "7 7"],
    ),
    NAMED: (
        ["17", "label: 17", "\\boxed{17}", "\\text{17}"],
        ["7", "1", "171", "1 7", "117", "17th", "", None, "label 7"],
    ),
    CHOICE: (
        ["b", "B", "(b)", "b)", "b.", "\\boxed{b}", "(b) Not mentioned in the conversations", "Option b", "answer (b)",
         "Not mentioned in the conversations", "not mentioned in the conversations.",
         "b: Not mentioned in the conversations",
         "choice b", "**b**"],
        ["", None, "a", "(a)", "a) Not mentioned in the conversations", "both", "a or b", "c", "ab", "not mentioned",
         "(a) Not mentioned in the conversations", "a blue car", "b and a", "neither", "(a) or (b)"],
    ),
    TEXT: (
        ["7 May 2023", "7 may 2023", "May 7, 2023", "May 7 2023.", "\\boxed{7 May 2023}", "the 7 May 2023",
         "“7 May 2023”"],
        ["", None, "8 May 2023", "May 2023", "7 May 2024", "It was on 7 May 2023", "17 May 2023", "7 5 2023", "2023"],
    ),
    PERSON: (
        ["Chief of Protocol", "chief of protocol", "The Chief of Protocol.", "\\text{Chief of Protocol}",
         "CHIEF OF PROTOCOL", "ｃｈｉｅｆ of protocol"],
        ["", None, "Chief", "Protocol", "of", "Chief Protocol", "Protocol of Chief", "the", "a", "Chief of of Protocol",
         "Deputy Chief of Protocol"],
    ),
    MONEY: (
        ["12.50", "$12.50", "12.5", "$12.5.", "€12.50"],  # a text knows no currencies
        ["1250", "12", "50", "12 50", "-12.50", "$1,250", "112.50", "", None, "12.5.0", "12.51"],
    ),
    MINUS: (["-5.00", "-5", "−5.00", "-5.0"], ["5.00", "5", "", None, "-5.01", "-50", "minus"]),
    JAPANESE: (
        ["東京タワー", "「東京タワー」", "東京タワー。", "\\boxed{東京タワー}"],
        ["東京", "タワー", "京東タワー", "", None],
    ),
}  # fmt: skip
CASES = [(gold, answer, value) for gold, pair in EXACT.items() for value, answers in zip((1.0, 0.0), pair, strict=True)
         for answer in answers]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer", "value"), CASES)
def test_exact(gold, answer, value):
    assert exact(answer, gold) == value


def test_there_are_enough():
    assert len(CASES) >= 200 and {gold.kind for gold in EXACT} | {"keywords", "rubric"} == {
        "amount", "dates", "categories", "label", "choice", "text", "keywords", "rubric"}  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("7 May 2023", TEXT, 1.0), ("on 7 May 2023", TEXT, 6 / 7), ("7", TEXT, 0.5), ("", TEXT, 0.0), (None, TEXT, 0.0),
        ("May", TEXT, 0.5), ("the the the", TEXT, 0.0), ("chief chief chief", PERSON, 1 / 3), ("1250", MONEY, 0.0),
        ("12.5 dollars", MONEY, 2 / 3), ("5.00", MINUS, 0.0), ("京東", JAPANESE, 4 / 7), ("東京", JAPANESE, 4 / 7),
    ],
)  # fmt: skip
def test_f1(answer, gold, value):
    assert f1(answer, gold) == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("7 May 2023", TEXT, 1.0), ("2023 May 7", TEXT, 2 / 3), ("", TEXT, 0.0), (None, TEXT, 0.0), ("1250", MONEY,
         0.0),
        ("chiefs of protocols", PERSON, 1.0), ("protocol of chief", PERSON, 1 / 3), ("東京", JAPANESE, 4 / 7),
        ("5.00", MINUS, 0.0),
    ],
)  # fmt: skip
def test_rouge_l(answer, gold, value):
    assert rouge_l(answer, gold) == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("2 trees in Riga near the old house", 1.0), ("Riga", 1 / 3), ("rigatoni", 0.0), ("12 trees", 0.0),
        ("trees 2", 0.0), ("an old, house", 1 / 3), ("OLD HOUSE; 2 TREES", 2 / 3), ("", 0.0), (None, 0.0), ("2", 0.0),
        ("household", 0.0), ("2.0 trees", 1 / 3), ("22 trees in Rigas", 0.0),
    ],
)  # fmt: skip
def test_keywords(answer, value):
    assert keywords(answer, KEYS) == pytest.approx(value)


def test_golds_score_one_and_no_answer_nothing():
    for gold in (*EXACT, KEYS):
        question = Question("q", "?", gold)
        for score in scores(tuple(METRICS), question, str(gold)):
            if score.metric in ("exact", "keywords") or gold.kind == "text":
                assert score.value == 1.0, (gold, score)
        assert all(score.value == 0.0 for score in scores(tuple(METRICS), question, None))


def test_a_rubric_has_no_score_without_a_judge():
    found = scores(("f1", "exact"), Question("q", "?", Gold("rubric", ("It says so.",))), "It says so.")
    assert [(score.value, score.metric) for score in found] == [(None, "f1"), (None, "exact")]


def test_a_metric_that_says_nothing_of_a_kind_gives_the_exact_one():
    found = scores(("f1", "exact"), Question("q", "?", CHOICE), "(b)")
    assert [(score.value, score.metric, score.note) for score in found] == [(1.0, "f1", "exact"), (1.0, "exact", "")]


def test_long_answers_take_time_in_their_length():
    import time

    long = "word 12.50 " * 20_000
    began = time.process_time()
    assert f1(long, TEXT) == 0.0 and exact(long, PERSON) == 0.0 and keywords(long, KEYS) == 0.0
    assert time.process_time() - began < 20
    assert len(words(long)) == 40_000
