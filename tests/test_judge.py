"""The judge: verdicts read strictly, rules by kind of question, what could not be judged, and the audit."""

from __future__ import annotations

import json

import pytest

from tests import set_files
from tests.model_server import completion, server
from tests.test_thirteen import config_of, scripted
from uma_lib.evaluation import read_answers, run
from uma_lib.files import RunError
from uma_lib.judge import RULES, Judge, agreement, error_rates, planted, verdict
from uma_lib.scoring import Gold, Score

RIGA = Gold("text", ("Riga", "the city of Riga"))


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("yes", True), ("Yes.", True), ("YES!", True), ("**Yes**", True), (" yes\n", True), ("yes yes", True),
        ("Answer: yes", True), ("The answer is no.", False), ("no", False), ("No.", False), ("`no`", False),
        ("<think>it says no</think>yes", True), ("<think>yes</think>No", False),
        ("", None), ("maybe", None), ("yes or no", None), ("yes, no", None), ("not", None), ("know", None),
        ("yesterday", None), ("I do not know", None), ("no idea", None), ("yes, because it says no city", None),
        ("<think>yes", None), ("1", None), ("true", None), ("correct", None), ("nein", None),
    ],
)  # fmt: skip
def test_verdicts(said, found):
    assert verdict(said) is found


def test_what_the_judge_is_asked():
    with server(lambda *_: completion("Yes.")) as (url, bodies):
        judge = Judge(f"{url}#m")
        assert judge("Where does Ida live?", RIGA, "In Riga.") == Score(1.0, "judge", "yes")
        assert judge("Where?", RIGA, "") == Score(0.0, "judge", "no answer")  # without asking
        for kind in RULES:
            judge("Where?", Gold("rubric", ("It says that it cannot know.",)), "I do not know.", kind)
    texts = [body["messages"][-1]["content"] for body in bodies]
    assert len(texts) == 1 + len(RULES) and all(body["temperature"] == 0 for body in bodies)
    assert "Right answer: Riga or the city of Riga\nResponse: In Riga." in texts[0] and RULES[""] in texts[0]
    assert all(rule in text for rule, text in zip(RULES.values(), texts[1:], strict=True))
    assert "cannot be answered" in texts[-1] and "off by one" in texts[2]


def test_judgements_are_kept_by_content(tmp_path):
    with server(lambda *_: completion("no")) as (url, bodies):
        for _ in range(3):
            found = Judge(f"{url}#m", tmp_path).all([("Where?", RIGA, "Oslo", ""), ("Where?", RIGA, "Bergen", "")])
            assert [score.value for score in found] == [0.0, 0.0]
        assert len(bodies) == 2
        Judge(f"{url}#m", tmp_path)("Where?", RIGA, "Oslo", "temporal-reasoning")  # another rule is another question
        assert len(bodies) == 3


@pytest.mark.parametrize(
    "answer", [completion("I cannot say"), completion("yes", ended="length"), (400, b"too long"), completion("")]
)
def test_what_cannot_be_judged_is_neither_right_nor_wrong(answer):
    with server(lambda *_: answer) as (url, _):
        score = Judge(f"{url}#m")("Where?", RIGA, "Riga")
    assert score.value is None and score.note


def test_a_judge_without_a_name_is_refused():
    for model in ("http://localhost:8000/v1", "data/nano", "", "ftp://a#b"):
        with pytest.raises(RunError, match="give a server with a model"):
            Judge(model)


def lenient(body, number=0, headers=None):
    """It says yes to whatever is not another city; it cannot judge Bo."""
    text = body["messages"][-1]["content"]
    response = text.partition("Response: ")[2].partition("\n")[0]
    right = text.partition("Right answer: ")[2].partition("\n")[0]
    if "Bo" in text.partition("\n")[0]:
        return completion("hard to say")
    return completion("yes" if right in response or "something about" in response else "no")


def test_the_judges_own_error_is_measured():
    cases = [("[2024] Where is Ada?", Gold("text", ("Riga",)), ""), ("Where is Bo?", Gold("text", ("Oslo",)), ""),
             ("Where is Cy?", Gold("text", ("Bergen",)), "")]  # fmt: skip
    made = planted(cases)
    assert [what for what, *_ in made] == ["right", "right", "vague", "wrong"] * 3
    assert all(response != str(gold) for what, _, gold, response, _ in made if what != "right")
    with server(lenient) as (url, _):
        found = {record["planted"]: record for record in error_rates(Judge(f"{url}#m"), cases)}
    assert found["right"] == {"planted": "right", "answers": 6, "errors": 0, "unjudged": 2, "error_rate": 0.0}
    assert found["wrong"] == {"planted": "wrong", "answers": 3, "errors": 0, "unjudged": 1, "error_rate": 0.0}
    assert found["vague"] == {"planted": "vague", "answers": 3, "errors": 2, "unjudged": 1, "error_rate": 1.0}
    with pytest.raises(RunError, match="two questions"):
        error_rates(Judge("http://localhost:1/v1#m"), cases[:1])


def test_agreement_counts_both_ways_and_lists_what_differs():
    pairs = [(1, 1)] * 6 + [(0, 0)] * 2 + [(0, 1)] * 1 + [(1, 0)] * 1 + [(None, 1), (1, None)]
    rows = [{"id": str(k), "exact": exact, "judge": judge} for k, (exact, judge) in enumerate(pairs)]
    found = agreement(rows)
    assert (found["answers"], found["agree"], found["only_judge"], found["only_exact"]) == (10, 0.8, 1, 1)
    assert found["kappa"] == pytest.approx((0.8 - 0.58) / 0.42) and [r["id"] for r in found["disagreements"]] == ["8",
    "9"]
    assert agreement([])["agree"] is None and agreement(rows[:3])["kappa"] is None


def test_an_evaluation_with_a_judge(tmp_path):
    """Free text has its judged score first; labels keep the exact one; a judge may be added later."""
    folder = tmp_path / "sets"
    set_files.nlu(folder)
    set_files.msc(folder, 5)

    def both(body, number, headers):
        if "Reply with yes or no" in body["messages"][-1]["content"]:
            return completion("yes" if number % 2 else "who knows")
        return scripted(body)

    with server(both) as (url, bodies):
        config = config_of(url, folder, agents=["concat"], sets=["nlu", "msc"])
        plain = run(config, tmp_path / "out")
        assert plain["judge"] == "" and all(row["correct"] == 0 for row in read_answers(tmp_path / "out"))
        asked = len(bodies)
        judged = config_of(url, folder, agents=["concat"], sets=["nlu", "msc"], judge=f"{url}#judge", audit=3)
        summary = run(judged, tmp_path / "out")
        assert len(bodies) - asked == 4 + 3 * 4 and run(judged, tmp_path / "out") == summary
        assert len(bodies) - asked == 16  # nothing was answered or judged again
    cells = {one["set"]: one for one in summary["accuracy"] if one["kind"] == "all"}
    assert cells["msc"]["accuracy"] == 1.0 and cells["msc"]["unscored"] == 2 and cells["nlu"]["accuracy"] == 0.0
    found = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert (found["answers"], found["unjudged"]) == (4, 2) and found["agreement"]["msc"]["only_judge"] == 2
    assert {record["planted"] for record in found["planted"]} == {"right", "wrong", "vague"}
    means = {(one["set"], one["metric"]): one for one in summary["metrics"]}
    assert means["msc", "judge"]["questions"] == 2 and ("nlu", "judge") not in means
