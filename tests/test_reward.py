r"""Typed scoring, rewards and advantages. Every scoring defect of the public code has cases that fail there:
substring matches, stripped punctuation, empty answers, listing everything, cut and lower-cased \boxed{}."""

import doctest
import re
import time
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uma_lib import reward
from uma_lib.reward import (
    Gold,
    extract_answer,
    group_advantages,
    parse_amount,
    parse_set,
    question_reward,
    score,
    tool_reward,
    trajectory_return,
)

# (answer, gold amount, right?)
AMOUNTS = [
    ("12.50", "12.50", True),
    ("12.5", "12.50", True),
    ("12.500", "12.50", True),
    (" 12.50\n", "12.50", True),
    ("12.50.", "12.50", True),
    ("$12.50", "12.50", True),
    ("$ 12.50", "12.50", True),
    ("US$12.50", "12.50", True),
    ("12.50 USD", "12.50", True),
    ("USD 12.50", "12.50", True),
    ("12.50 dollars", "12.50", True),
    ("€12.50", "12.50", True),
    ("12.50 yuan", "12.50", True),
    ("¥12.50", "12.50", True),
    ("**12.50**", "12.50", True),
    ('"12.50"', "12.50", True),
    ("+12.50", "12.50", True),
    ("12", "12.00", True),
    ("12.00", "12", True),
    ("1,234.50", "1234.50", True),
    ("1,234,567", "1234567", True),
    ("-5.00", "-5.00", True),
    ("-$5", "-5.00", True),
    ("$-5", "-5.00", True),
    ("−5.00", "-5.00", True),
    ("0", "0.00", True),
    ("0.10", ".1", True),
    ("007", "7", True),
    ("-0.00", "0", True),
    ("£1,234.5", "1234.50", True),
    ("$12.50 USD", "12.50", True),
    ("usd 12.50", "12.50", True),
    ("12,345,678.90", "12345678.9", True),
    # substring matches
    ("15.00", "5.00", False),
    ("5.00", "15.00", False),
    ("112.50", "12.50", False),
    ("12.501", "12.50", False),
    ("12.5012.50", "12.50", False),
    ("12.5", "2.5", False),
    ("1200", "120", False),
    ("100", "1", False),
    ("2024-05-01", "5", False),
    # stripped punctuation
    ("1250", "12.50", False),
    ("12,50", "12.50", False),
    ("12 50", "12.50", False),
    ("-5.00", "5.00", False),
    ("5.00", "-5.00", False),
    ("--5.00", "-5.00", False),
    ("-$-5.00", "-5.00", False),
    ("12..50", "12.50", False),
    ("1.250", "1250", False),
    ("12,34.50", "1234.50", False),
    ("1,2345", "12345", False),
    ("1,234", "1.234", False),
    ("1,23", "123", False),
    ("1.234,50", "1234.50", False),
    ("1 234.50", "1234.50", False),
    ("1,,234", "1234", False),
    ("12.50-", "-12.50", False),
    ("(12.50)", "12.50", False),
    ("(12.50)", "-12.50", False),
    ("12.5.0", "12.50", False),
    ("$1250", "12.50", False),
    # empty answers
    ("", "12.50", False),
    (" \n", "12.50", False),
    ("$", "0", False),
    (".", "0", False),
    (r"\boxed{}", "12.50", False),
    # several numbers, sentences, words
    ("12.50 or 13.00", "12.50", False),
    ("12.50, 13.00", "12.50", False),
    ("12.50\n12.50", "12.50", False),
    ("12.50 and 12.50", "12.50", False),
    ("12.50 = 12.50", "12.50", False),
    ("10.00 + 2.50 = 12.50", "12.50", False),
    ("12.50 on 2024-05-01", "12.50", False),
    ("The total is 12.50", "12.50", False),
    ("12.50 in total", "12.50", False),
    ("about 12.50", "12.50", False),
    ("not 12.50", "12.50", False),
    ("12.50%", "12.50", False),
    ("1250 cents", "12.50", False),
    ("25/2", "12.50", False),
    ("10 + 2.50", "12.50", False),
    ("1.25e1", "12.50", False),
    ("twelve", "12", False),
    ("nan", "12", False),
    ("Infinity", "12", False),
    ("1_250", "1250", False),
    ("١٢", "12", False),
    # boxes
    (r"\boxed{12.50}", "12.50", True),
    (r"\boxed{12.50} and so on " + "x" * 400, "12.50", True),
    ("reason " * 200 + r"\boxed{12.50}", "12.50", True),
    (r"10 + 2.50 = \boxed{\$12.50}", "12.50", True),
    (r"\boxed{12.50\text{ USD}}", "12.50", True),
    (r"\boxed{1} no, \boxed{12.50}", "12.50", True),
    (r"\boxed{12.50} no, \boxed{1}", "12.50", False),
    (r"12.50 \boxed{1}", "12.50", False),
    (r"12.50 \boxed{}", "12.50", False),
    (r"\boxed{12.50", "12.50", False),
    (r"\BOXED{12.50}", "12.50", False),
    ("\x08oxed{12.50}", "12.50", True),  # what json.loads makes of "\boxed{12.50}"
    (r"\boxed{\boxed{12.50}}", "12.50", True),
    (r"\boxed{12.50 \boxed{13}}", "12.50", False),
    (r"\boxed{{12.50}}", "12.50", False),
    (r"\boxed{12.50} or \boxed{13", "12.50", True),
    (r"\boxed{12.50, 13.00}", "12.50", False),
    (r"\boxed{15.00}", "5.00", False),
    (r"\boxed{The total is 12.50}", "12.50", False),
    (r"\boxed{$12.50$}", "12.50", True),
    (r"\boxed{} 12.50", "12.50", False),
    (r"\boxed{-5.00}", "5.00", False),
    (r"The total is 12.50. \boxed{12.50}", "12.50", True),
    (r"\boxed{12.50} " + "and 13.00 is wrong. " * 40, "12.50", True),
]

ALL = "Dining, Transportation, Shopping, Entertainment, Utilities, Medical, Education, Other"
# (answer, gold categories, right?)
CATEGORIES = [
    ("Dining", ("Dining",), True),
    ("dining", ("Dining",), True),
    ("DINING.", ("Dining",), True),
    ('["Dining"]', ("Dining",), True),
    ("['Dining', 'Medical']", ("Medical", "Dining"), True),
    ("Dining and Medical", ("Dining", "Medical"), True),
    ("Medical, Dining", ("Dining", "Medical"), True),
    ("Dining; Medical", ("Dining", "Medical"), True),
    ("Dining, Medical, and Other", ("Dining", "Medical", "Other"), True),
    ("- Dining\n- Medical", ("Dining", "Medical"), True),
    ("Dining, Dining", ("Dining",), True),
    ("Dining, Medical, Dining", ("Dining", "Medical"), True),
    (", Dining,", ("Dining",), True),
    ("dining AND medical", ("Dining", "Medical"), True),
    ("Dining，Medical", ("Dining", "Medical"), True),
    (r"I spent most on Medical. \boxed{Dining}", ("Dining",), True),
    (r"\boxed{Dining" + ", Dining" * 60 + "}", ("Dining",), True),
    (r"\boxed{Dining, Medical" + ", Dining" * 60 + "}", ("Dining",), False),
    (r"\boxed{\text{Dining}, \text{Medical}}", ("Dining", "Medical"), True),
    ("\x08oxed{\text{Dining}}", ("Dining",), True),  # both escapes read by JSON
    (ALL, ("Dining",), False),
    (r"\boxed{" + ALL + "}", ("Dining", "Medical"), False),
    ("Dining, Medical", ("Dining",), False),
    ("Dining", ("Dining", "Medical"), False),
    ("Din", ("Dining",), False),
    ("Dinings", ("Dining",), False),
    ("Dining Medical", ("Dining", "Medical"), False),
    ("DiningandMedical", ("Dining", "Medical"), False),
    ("not Dining", ("Dining",), False),
    ("The category is Dining", ("Dining",), False),
    ("Dining (12.50)", ("Dining",), False),
    ("Dining, Dining", ("Dining", "Medical"), False),
    ("Dining, Medical", ("Dining", "Other"), False),
    ("Dining, none", ("Dining",), False),
    ("Dining/Medical", ("Dining", "Medical"), False),
    (r"\boxed{Dining} \boxed{Medical}", ("Dining", "Medical"), False),
    (r"\boxed{Medical} Dining", ("Dining",), False),
    ("and", ("Dining",), False),
    ("", ("Dining",), False),
    (",", ("Dining",), False),
    ("[]", ("Dining",), False),
    (r"Dining \boxed{}", ("Dining",), False),
]

# (answer, gold dates, right?)
DATES = [
    ("2024-05-01", ("2024-05-01",), True),
    ("2024-05-01.", ("2024-05-01",), True),
    ("2024-05-01, 2024-06-02", ("2024-05-01", "2024-06-02"), True),
    ("2024-06-02 and 2024-05-01", ("2024-05-01", "2024-06-02"), True),
    ("2024-05-01\r\n2024-06-02\n", ("2024-05-01", "2024-06-02"), True),
    ('["2024-05-01", "2024-06-02"]', ("2024-05-01", "2024-06-02"), True),
    ("2024-05-01, 2024-05-01", ("2024-05-01",), True),
    ("- 2024-06-02\n- 2024-05-01", ("2024-05-01", "2024-06-02"), True),
    ("2024-05-01; 2024-06-02; 2024-05-01", ("2024-05-01", "2024-06-02"), True),
    (r"So \boxed{2024-05-01}", ("2024-05-01",), True),
    ("2024-05-01, 2024-06-02", ("2024-05-01",), False),
    ("2024-05-01", ("2024-05-01", "2024-06-02"), False),
    ("2024-05-01 2024-06-02", ("2024-05-01", "2024-06-02"), False),
    ("2024-05-01 to 2024-06-02", ("2024-05-01", "2024-06-02"), False),
    ("2024-5-1", ("2024-05-01",), False),
    ("05/01/2024", ("2024-05-01",), False),
    ("May 1, 2024", ("2024-05-01",), False),
    ("1 May 2024", ("2024-05-01",), False),
    ("2024/05/01", ("2024-05-01",), False),
    ("2024.05.01", ("2024-05-01",), False),
    ("2024-05-01T00:00", ("2024-05-01",), False),
    ("24-05-01", ("2024-05-01",), False),
    ("2024-01-05", ("2024-05-01",), False),
    ("2024–05–01", ("2024-05-01",), False),
    ("20240501", ("2024-05-01",), False),
    ("2024-05", ("2024-05-01",), False),
    ("2024-05-011", ("2024-05-01",), False),
    ("on 2024-05-01", ("2024-05-01",), False),
    ("", ("2024-05-01",), False),
]


TABLE = (
    [("amount", answer, (gold,), right) for answer, gold, right in AMOUNTS]
    + [("categories", *row) for row in CATEGORIES]
    + [("dates", *row) for row in DATES]
)


def bare(text: str) -> str:
    return re.sub(r"[^\w\s]", "", text).strip()


# what the public code does, a defect at a time
DEFECTS = {
    "the gold is looked for in the answer": lambda answer, gold: all(v in extract_answer(answer) for v in gold.values),
    "an empty answer matches": lambda answer, gold: extract_answer(answer) in ", ".join(gold.values),
    "punctuation is stripped": lambda answer, gold: bare(extract_answer(answer)) == bare(", ".join(gold.values)),
    "the end is cut off before the box is looked for": lambda answer, gold: score(answer[-300:], gold),
    "all is lower case before the box is looked for": lambda answer, gold: score(answer.lower(), gold),
    "the first number counts": lambda answer, gold: gold.kind == "amount"
    and (found := re.search(r"[\d.]*\d", extract_answer(answer))) and score(found[0], gold),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_table_catches_every_defect(defect):
    """A scorer that has it is wrong on a case at least, so the table can fail."""
    assert any(bool(DEFECTS[defect](answer, Gold(kind, gold))) != right for kind, answer, gold, right in TABLE)


@pytest.mark.parametrize(("answer", "gold", "right"), AMOUNTS)
def test_amounts(answer, gold, right):
    assert score(answer, Gold("amount", (gold,))) == float(right)


@pytest.mark.parametrize(("answer", "gold", "right"), CATEGORIES)
def test_categories(answer, gold, right):
    assert score(answer, Gold("categories", gold)) == float(right)


@pytest.mark.parametrize(("answer", "gold", "right"), DATES)
def test_dates(answer, gold, right):
    assert score(answer, Gold("dates", gold)) == float(right)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("  plain ", "plain"),
        (r"\boxed{a} \boxed{b}", "b"),
        (r"\boxed{a{b}c}", "a{b}c"),
        (r"\boxed{\boxed{a}}", "a"),
        (r"{ \boxed{a}", "a"),
        (r"} \boxed{a} }", "a"),
        (r"\boxed {a}", "a"),
        (r"\boxed{a} \boxed{b", "a"),
        (r"\boxed{A.B, c}", "A.B, c"),
        (r"boxed{a}", r"boxed{a}"),
        (r"\boxed{\text{a}, b}", "a, b"),
        ("\x08oxed{\text{a}}", "a"),
        ("", ""),
    ],
)
def test_extract_answer(text, answer):
    assert extract_answer(text) == answer


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9))
def test_every_way_to_write_an_amount_parses_to_it(amount):
    for text in (f"{amount:f}", f"{amount:,f}", f"{amount:f}0", f"{amount:,f} USD", f"{amount:+f}"):
        assert parse_amount(text) == amount
    assert parse_amount(f"{amount:f} {amount:f}") is None


@given(st.text(max_size=60))
def test_scoring_never_raises_and_is_binary(text):
    for gold in (Gold("amount", ("1",)), Gold("dates", ("2024-05-01",)), Gold("categories", ("Other",))):
        assert score(text, gold) in (0.0, 1.0)


@pytest.mark.parametrize("text", [r"\boxed{" * 20_000, "{" * 90_000, "-" + " " * 90_000 + "x", "1," * 50_000])
def test_a_degenerate_long_answer_costs_no_time(text):
    start = time.process_time()
    for gold in (Gold("amount", ("1",)), Gold("categories", ("Other",))):
        assert score(text, gold) == 0.0
    assert time.process_time() - start < 2  # quadratic scanning takes minutes


def test_an_amount_is_exact_however_long():
    assert parse_amount("0.1") == Decimal("0.1")
    long = "1" * 60
    assert score(long, Gold("amount", (long,))) == 1.0
    assert score(long, Gold("amount", (long[:-1] + "2",))) == 0.0


def test_parse_set_drops_empty_items():
    assert parse_set(" a,,b and \n c;") == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("number", ("1",)),
        ("amount", ()),
        ("amount", ("1", "2")),
        ("amount", ("1 or 2",)),
        ("amount", "12"),
        ("dates", ("2024-5-1",)),
        ("dates", ()),
        ("categories", ("Food and Drink",)),
        ("categories", ("a, b",)),
        ("categories", ("",)),
    ],
)
def test_a_gold_that_no_answer_could_match_is_refused(kind, values):
    with pytest.raises(ValueError, match="gold|Gold"):
        Gold(kind, values)


def test_tool_reward_never_pays_for_idle_calls():
    assert tool_reward(0, 0) == 1.0
    assert tool_reward(1, 1) == tool_reward(0, 0)
    assert tool_reward(3, 4) == 0.75
    assert tool_reward(0, 2) == 0.0
    for valid, calls in [(2, 1), (-1, 3)]:
        with pytest.raises(ValueError, match="valid of"):
            tool_reward(valid, calls)


def test_question_reward_and_trajectory_return():
    assert question_reward(1.0, 0.5, 0.5) == 1.25
    assert question_reward(1.0, 0.5, 0.0) == 1.0
    assert trajectory_return([1.5, 0.5, 0.25, 0.75]) == 0.75
    with pytest.raises(ValueError, match="without questions"):
        trajectory_return([])


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_trajectory_return_does_not_depend_on_question_order(rewards, random):
    shuffled = rewards.copy()
    random.shuffle(shuffled)
    assert trajectory_return(shuffled) == trajectory_return(rewards)


def test_advantages_worked_example():
    # memory group: mean 0.5, population std 0.5; question group: mean 1, std sqrt(2/3)
    rewards = [0.0, 2.0, 1.0, 1.0, 0.0]
    groups = [("memory", 0), ("question", 0, 0), ("question", 0, 0), ("memory", 0), ("question", 0, 0)]
    expected = [-1.0, 1.5**0.5, 0.0, 1.0, -(1.5**0.5)]
    assert group_advantages(rewards, groups) == pytest.approx(expected)


def test_strata_are_apart_and_one_constant_group_is_the_ablation():
    rewards = [10.0, 12.0, 0.0, 1.0]
    assert group_advantages(rewards, ["memory", "memory", "question", "question"]) == [-1, 1, -1, 1]
    together = group_advantages(rewards, [0] * 4)
    assert together[0] > 0 and together[3] < 0


# Quarters are exact in binary, as are their sums: rewards are equal or clearly different, never almost equal.
QUARTERS = st.integers(-8, 8).map(lambda n: n / 4)


@given(st.lists(st.tuples(QUARTERS, st.integers(0, 4)), max_size=40), st.sampled_from([0.0, 0.1, 3.0]))
def test_advantages_equal_the_equations_on_ragged_groups(pairs, floor):
    rewards = np.array([r for r, _ in pairs])
    groups = np.array([g for _, g in pairs])
    expected = np.zeros(len(pairs))
    for group in set(groups.tolist()):
        values = rewards[groups == group]
        deviation = np.sqrt(np.mean((values - values.mean()) ** 2))
        if len(values) > 1 and deviation > 0:
            expected[groups == group] = (values - values.mean()) / np.maximum(deviation, floor)
    actual = group_advantages(rewards.tolist(), groups.tolist(), floor)
    np.testing.assert_allclose(actual, expected, atol=1e-12)


@given(st.floats(-3, 3), st.integers(1, 30))
def test_a_group_of_one_or_of_equal_rewards_has_no_advantage(reward, size):
    assert group_advantages([reward] * size, ["g"] * size) == [0.0] * size


def test_rounding_differences_are_not_advantages():
    assert group_advantages([0.1 + 0.2, 0.3, 0.3], [0, 0, 0]) == [0.0, 0.0, 0.0]
    assert group_advantages([0.0, 1e-300], [0, 0]) == [0.0, 0.0]


def test_advantages_refuse_bad_input():
    with pytest.raises(ValueError, match="2 rewards but 1"):
        group_advantages([1.0, 2.0], [0])
    with pytest.raises(ValueError, match="not finite"):
        group_advantages([1.0, float("nan")], [0, 0])
    assert group_advantages([], []) == []


def test_examples():
    assert doctest.testmod(reward).failed == 0
