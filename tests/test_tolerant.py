r"""The tolerant reading: a table by common sense, and that no answer is right for two golds."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uma_lib.ledger import CATEGORIES
from uma_lib.scoring import Gold, score
from uma_lib.tolerant import score_tolerant

# of each kind: what the gold is, answers that the strict reading takes for it, those that only the tolerant one does,
# and those that neither does
TABLE = {
    ("amount", ("12.50",)): (
        ["12.50", "$12.5", r"\boxed{\$12.50}", "US$12.50", "12.50 dollars", "12.50 bucks", "**12.50**"],
        [
            "The total is $12.50", "Total: 12.50", "12.50 in total", "(12.50)", "Dining: 12.50", "Total = 12.50",
            "You spent $12.50 on Dining.", "On 2024-05-01 you spent $12.50.", "Your total was **$12.50**.",
            "On May 1, 2024, you spent 12.50 dollars on Dining.", "You made 3 purchases, $12.50 in total.",
            "You went out 3 times, $12.50 in total.",
            "$12.50. So the total is $12.50.", "I spent 12.50 USD from 2024-05-01 to 2024-05-03", "It is 12.50 bucks!",
            "Total spent between 2024-05-01 and 2024-05-03: $12.50", "In session 3 you paid 12.50.",
            r"\boxed{Total: \$12.50}", r"\boxed{The total is 12.50}", "It adds up to $12.50", "I think it is 12.50",
            "Your largest expense was US$12.50 for a dinner.", "In May 2024 you spent 12.50.", "Total — 12.50",
            r"The total is \(12.50\).", r"The total is $12.50$.", r"The total is $\$12.50$.", "Sum: ＄１２．５０",
            "<answer>12.50</answer>", "12.50 (dollars)", "The 1st of May: 12.50", "12.50 was spent.",
            "The sum of all entries is 12.50",
        ],
        [
            "€12.50", "12.50 yen", "The total is €12.50", "The total is 12.50 euros", "EUR 12.50", "CA$12.50",
            "It is HK$12.50", "12.50 pesos", "12.50 Canadian dollars", "HK$ 12.50", "12.50 CAD", "₹12.50", "¥12.50",
            "1250 cents", "not 12.50", "It isn't 12.50", "maybe 12.50", "I don't know, maybe 12.50", "about 12.50",
            "at least 12.50", "up to $12.50", "under $12.50", "roughly 12.50", "between 12.50 and 13", "~12.50",
            "12.50?", "$5 + $7.50 = $12.50", "not $5 but $12.50", "12.50 or 13", "12.50, 12.50", "12.50 and 12.50",
            "6.25 + 6.25", "12.50 each", "12.50 per day", "$12.50 million", "12.50k", "12.50%", "12,50", "twice 12.50",
            "No, 12.50", "nothing but 12.50", r"\boxed{\boxed{12.50}}", r"\boxed{\approx 12.50}", "-12.50",
            "12.50 plus tip", "Dining 5, Medical 7.50, total 12.50", "112.50", "12.501", "twelve fifty", "12½", "",
            r"12.50 \boxed{13}", r"12.50 \boxed{}", r"It is \boxed{12.50", r"\boxed{\frac{25}{2}}",
            "You spent $12.50 on Dining and $12.50 on Medical.", "Kč 12.50", "Rs. 12.50", "Taiwan dollars 12.50",
            "minus 12.50", "The total is negative 12.50", "Minus $12.50.", "a third of 12.50", "thrice 12.50", "12.50+",
            "three times 12.50", "upwards of 12.50", "close to 12.50", "far from 12.50", "less 12.50", "hardly 12.50",
            "I doubt it is 12.50", "12.50, I suppose", "presumably 12.50", "it used to be 12.50", "previously 12.50",
            "Incorrectly 12.50", "R 12.50", "Bs 12.50", "Aussie dollars 12.50", "a quarter of $12.50",
            "The refund was -$12.50", "R$12.50", "12.50 (in CAD)", "Total: $12.50. Breakdown: none",
            "1: 12.50, 2: 7", "The rate is 12.50-13", "12.50 of 20",
        ],
    ),
    ("amount", ("12",)): (
        ["12", "$12", "12.00", "012", r"\boxed{12}"],
        ["12 entries were cancelled.", "There were 12 cancellations", "You spent 12 in total in 2024."],
        ["0,012", "It is 0,012", "12 of 20 entries", "May 12", "the 12th", "2024-05-12", "Session 12", "5-12", "10:12",
         "12 thousand", "12 people", "١٢", "12²", "12 and 13 entries"],
    ),
    ("amount", ("0",)): (
        ["0", "$0", "0.00", "-0"],
        ["nothing", "None", "zero", "Nothing.", "You spent nothing on Dining.", "zero dollars", "nothing at all",
         "There were no purchases.", "You had no Dining expenses on 2024-05-01.", "The total is $0.",
         "$0.00 (no purchases)",
         "You spent no money on Dining."],
        ["I found nothing", "There is no record", "no", "not nothing", "nothing in memory", "none of these", "unknown",
         "nothing or 5", "O"],
    ),
    ("amount", ("1234.50",)): (
        ["1,234.50", r"\boxed{1{,}234.50}", r"\boxed{1\,234.50}", "1\u202f234.50"],
        ["The total is $1,234.50.", r"\boxed{\text{Total: }1{,}234.50}", "You spent 1,234.5 dollars overall."],
        ["1.234,50", "1 234.50", "The total is 1.234,50", "1,2345", "1,23,4.50"],
    ),
    ("dates", ("2024-05-01",)): (
        ["2024-05-01", r"\boxed{2024-05-01}", "2024‑05‑01", "**2024-05-01**."],
        [
            "May 1, 2024", "1 May 2024", "2024/05/01", "On 2024-05-01", "2024.05.01", "2024-5-1", "May 1st, 2024",
            "1st of May, 2024", "Wednesday, May 1, 2024", "2024年5月1日", "The date is 2024-05-01.",
            "On **2024-05-01** you had 3 Dining transactions.", "2024-05-01 (Wednesday)", "2024-05-01T00:00",
            "2024-05-01 ($12.50)", r"\boxed{\text{May 1, 2024}}", "1-May-2024",
            "It was 2024-05-01. So: 2024-05-01", "MAY 1, 2024",
            "On 2024-05-01 you bought more than on any other day.",
        ],
        [
            "05/01/2024", "01/05/2024", "May 1", "2024-05", "May 2024", "24-05-01", "20240501", "before 2024-05-01",
            "not 2024-05-01", "probably 2024-05-01", "2024-05-01?", "2024-05-01 or 2024-05-03", "2024-05-011",
            "2024-05-01-02", "from 2024-05-01 to 2024-05-01", "May 1 and 3, 2024", "2024-05-01 and 05-03", "2024-01-05",
            "2024-05-01 had more than 2024-05-03", "2024-05-01 and May 3", "May 1, 2024 and May 32, 2024",
            "2024-05-01, 2024-05-03", "",
        ],
    ),
    ("dates", ("2024-05-13",)): (
        [],
        ["13/05/2024", "05/13/2024", "13.05.2024", "It was on 13 May 2024"],
        ["13/13/2024", "12/05/2024"],
    ),
    ("dates", ("2024-05-01", "2024-05-03")): (
        ["2024-05-01, 2024-05-03", "1. 2024-05-01\n2. 2024-05-03",
         r"\boxed{2024-05-01} and \boxed{2024-05-03}",
         "{2024-05-01, 2024-05-03}"],
        ["On 2024-05-01 and on 2024-05-03.", "May 1, 2024 and May 3, 2024",
         "2024-05-01 (Wednesday) and 2024-05-03 (Friday)",
         "- May 1, 2024\n- May 3, 2024", "1. May 1, 2024 2. May 3, 2024",
         "Both 2024-05-01 and 2024-05-03 had 2 purchases",
         r"\boxed{\text{May 1, 2024}}, \boxed{\text{May 3, 2024}}"],
        ["from 2024-05-01 to 2024-05-03", "2024-05-01 - 2024-05-03", "2024-05-01 to 2024-05-03", "2024-05-01",
         "2024-05-01 or 2024-05-03", "between 2024-05-01 and 2024-05-03", "2024-05-01 2024-05-03", "May 1 and 3, 2024",
         r"\boxed{2024-05-01} no, \boxed{2024-05-03}"],
    ),
    ("categories", ("Dining",)): (
        ["Dining", "dining.", r"\boxed{\textbf{Dining}}"],
        ["The category is Dining", "Dining, with $120.50", "It was dining.", "DINING: 120.50", "**Dining** it is",
         "You spent the most on Dining from 2024-05-01 to 2024-05-03.", "Dining (the highest)",
         r"\boxed{\text{It is Dining}}",
         "Dining had the highest spending, more than any other category."],
        ["not Dining", "It isn't Dining", "Dining or Shopping", "maybe Dining", "Dining exceeded Shopping", "Dinings",
         "Dining: 5, Medical: 7", "Dining, not Medical", "non-Dining", "neither Dining", "Dining?", "no Dining",
         "Dining, Shopping", "", "Din", r"\boxed{\boxed{Dining}}", r"Dining \boxed{Medical}"],
    ),
    ("categories", ("Other",)): (
        ["Other", "other"],
        ["Category: Other", "The category with the highest spending was Other.", "Other was the highest"],
        ["no other category", "Other categories were low", "It was some other one", "Dining rather than Other"],
    ),
    ("categories", ("Dining", "Shopping")): (
        ["Dining and Shopping", "Dining & Shopping", "1. Dining\n2. Shopping", r"\boxed{Dining \& Shopping}"],
        ["Both Dining and Shopping", "Dining/Shopping", "Dining and Shopping are tied", "Tied: Dining, Shopping."],
        ["Dining Shopping", "Dining or Shopping", "Dining, then Shopping", "Dining beat Shopping",
         "Dining, less than Shopping",
         "Dining over Shopping"],
    ),
}  # fmt: skip
CASES = [
    (kind, gold, answer, strict, tolerant)
    for (kind, gold), answers in TABLE.items()
    for group, (strict, tolerant) in zip(answers, [(1, 1), (0, 1), (0, 0)], strict=True)
    for answer in group
]
GOLDS = [
    *(Gold("amount", (value,)) for value in
      "0 1 5 6 7 12 12.50 12.501 112.50 13 1234 1234.50 1.234 2024 -12.50".split()),
    *(Gold("dates", days) for n in (1, 2) for days in itertools.combinations(
        "2024-05-01 2024-05-03 2024-05-13 2024-01-05 2024-05-12 2024-12-05".split(), n)),
    *(Gold("categories", names) for n in (1, 2) for names in itertools.combinations(CATEGORIES, n)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "gold", "answer", "strict", "tolerant"), CASES)
def test_the_table(kind: str, gold: tuple[str, ...], answer: str, strict: int, tolerant: int) -> None:
    gold = Gold(kind, gold)
    assert (score(answer, gold), score_tolerant(answer, gold, CATEGORIES)) == (strict, tolerant)


def right_for(answer: str) -> list[Gold]:
    """Golds that an answer is right for; whatever is right strictly must be right tolerantly."""
    tolerant = [gold for gold in GOLDS if score_tolerant(answer, gold, CATEGORIES)]
    assert all(gold in tolerant for gold in GOLDS if score(answer, gold))
    return tolerant


@pytest.mark.parametrize("answer", sorted({answer for _, _, answer, _, _ in CASES}))
def test_no_answer_of_the_table_is_right_for_two_golds(answer: str) -> None:
    kinds = [gold.kind for gold in right_for(answer)]
    assert len(kinds) == len(set(kinds))  # of each kind one


PIECES = st.sampled_from(
    ["12.50", "$5", "12", "0", "1,234", "1{,}234.50", r"1\,234", "0,012", "2024-05-01", "May 3, 2024", "13/05/2024",
     "05/12/2024", "Dining", "Medical", "Other", "other", "nothing", "none", "no", "not", "or", "and", "to", "is",
     "total", "The", "purchases", "euros", "dollars", "USD", "€", "$", "=", "+", "-", ",", ".", "&", ";", "/", "(", ")",
     "{", "}", r"\boxed{", r"\fbox{", r"\textbf{", r"\(", r"\)", r"\\", "\n", "1.", "2)", "１２", "‑"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12), st.sampled_from([" ", "", "\n"]))
def test_no_answer_is_right_for_two_golds(pieces: list[str], between: str) -> None:
    kinds = [gold.kind for gold in right_for(between.join(pieces))]
    assert len(kinds) == len(set(kinds))


@given(st.text(max_size=60))
def test_any_text_can_be_scored(text: str) -> None:
    right_for(text)


@pytest.mark.parametrize("name", ["Travel", "din"])
def test_a_gold_that_is_no_known_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="names are Dining"):
        score_tolerant("Dining", Gold("categories", (name,)), CATEGORIES)


@pytest.mark.parametrize(
    "text",
    [r"\boxed{" * 20_000, r"\textbf{" * 20_000 + "}" * 20_000, "{" * 90_000, "1," * 50_000, "1 " * 50_000, "a" * 90_000,
     "Other " * 15_000, "Dining, " * 12_000, "2024-05-01 " * 9_000, "\\boxed{1}, " * 9_000, "$" * 90_000, "-" * 90_000,
     "no " * 30_000, "a$" * 40_000, "May " * 20_000, " " * 90_000 + "x", "\n" * 90_000 + "x", "1\u202f111" * 9_000],
    ids=lambda text: ascii(text[:12]),
)  # fmt: skip
def test_a_degenerate_long_answer_states_no_value(text: str) -> None:
    # some of these would be scanned for minutes if length did not end it
    for gold in (Gold("amount", ("1",)), Gold("dates", ("2024-05-03",)), Gold("categories", ("Other", "Dining"))):
        assert score_tolerant(text, gold, CATEGORIES) == score(text, gold)
