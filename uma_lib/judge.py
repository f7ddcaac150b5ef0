"""A judge of answers: a language model at a server that is asked yes or no, and an audit of what it says.

The verdict must be a yes or a no (`verdict`); anything else is "could not be judged", which is None and counted
apart, never wrong. Each judgement is asked for once: the server's cache keeps it by content (`server.Server`). The
question is the paper's, whether a response agrees with the right answer; LongMemEval's kinds of questions have rules
of their own, abstention among them, which the authors' code of this paper never reaches.

An audit says how far to trust it: where an exact score exists, how often both agree (`agreement`); and on planted
answers, right, wrong and vaguely wrong ones, how often it errs (`error_rates`).

    >>> judge = Judge("http://localhost:8000/v1#qwen3-30b", Path("cache"))              # doctest: +SKIP
    >>> judge("Where does Ida live?", Gold("text", ("Riga",)), "She lives in Riga.")    # doctest: +SKIP
    Score(value=1.0, metric='judge', note='yes')
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from uma_lib.calls import split_thought
from uma_lib.files import RunError, SessionError
from uma_lib.scoring import Gold, Score
from uma_lib.server import Server

MOST_TOKENS = 2048  # of a judgement, thinking included
ANSWER_CHARS = 4000  # of a response that are shown

ASK = "Does the response agree with the right answer? Reply with yes or no alone."
RULES = {  # by kind of question, in words of our own after LongMemEval's rules
    "": "A response agrees if it says the same in other words, or that and more. It does not if it says only a part.",
    "temporal-reasoning": (
        "A response agrees if it says the same in other words. In counts of days, weeks or months to be off by one is "
        "no mistake. It does not agree if it says only a part."
    ),
    "knowledge-update": (
        "A response agrees if it gives the right answer as what holds now. It may mention what held before."
    ),
    "single-session-preference": (
        "The right answer describes what a good response does. A response agrees if it recalls and uses what the user "
        "has told about themselves correctly; it need not meet every point."
    ),
    "abstention": (
        "The question cannot be answered from what was said. A response agrees if it says so: that the information is "
        "missing, or that something else was said. It does not if it answers nevertheless."
    ),
}  # fmt: skip


def verdict(said: str) -> bool | None:
    """Yes or no, if it is one of them and nothing beside it but punctuation or its repetition; else None.

    >>> [verdict(text) for text in ("Yes.", "**no**", "<think>yes?</think> No", "yes, yes")]
    [True, False, False, True]
    >>> [verdict(text) for text in ("Not sure", "yes and no", "", "yes, but it is not")]
    [None, None, None, None]
    """
    words = set(re.findall(r"[^\W_]+", split_thought(said)[1].casefold()))
    if words - {"yes", "no", "answer", "verdict", "the", "is"}:
        return None
    found = words & {"yes", "no"}
    return "yes" in found if len(found) == 1 else None


@dataclass(frozen=True)
class Judge:
    """A model at a server, ``http://host:8000/v1#name``; ``cache``: a folder that keeps its judgements."""

    model: str
    cache: Path | None = None
    key_variable: str | None = None
    patience: float = 600.0

    def __post_init__(self) -> None:
        address, _, name = self.model.partition("#")
        if not name or not address.startswith(("http://", "https://")):
            raise RunError(f"judge is {self.model!r}: give a server with a model, such as http://host:8000/v1#name")

    def server(self) -> Server:
        return Server(self.model.partition("#")[0], self.cache, self.key_variable or None, patience=self.patience)

    def request(self, question: str, gold: Gold, response: str, kind: str = "") -> dict[str, Any]:
        """What the server is asked."""
        right = " or ".join(gold.values) if gold.kind == "text" else ", ".join(gold.values)
        rule = RULES.get(kind, RULES[""])
        text = f"Question: {question}\nRight answer: {right}\nResponse: {response[:ANSWER_CHARS]}\n\n{rule} {ASK}"
        return {
            "model": self.model.partition("#")[2], "temperature": 0, "max_tokens": MOST_TOKENS, "seed": 0,
            "messages": [{"role": "user", "content": text}],
        }  # fmt: skip

    def ask(self, server: Server, question: str, gold: Gold, response: str, kind: str = "") -> Score:
        """The score of one response; no answer is wrong without asking."""
        if not response.strip():
            return Score(0.0, "judge", "no answer")
        try:
            reply = server.ask(self.request(question, gold, response, kind))
        except SessionError as error:
            return Score(None, "judge", str(error))
        found = None if reply.cut else verdict(reply.text)
        if found is None:
            return Score(None, "judge", f"could not be judged: {' '.join(reply.text.split())[:80]!r}")
        return Score(float(found), "judge", "yes" if found else "no")

    def __call__(self, question: str, gold: Gold, response: str, kind: str = "") -> Score:
        server = self.server()
        try:
            return self.ask(server, question, gold, response, kind)
        finally:
            server.close()

    def all(self, cases: Sequence[tuple[str, Gold, str, str]], parallel: int = 8) -> list[Score]:
        """Scores of (question, gold, response, kind), in order."""
        server = self.server()
        try:
            with ThreadPoolExecutor(parallel) as pool:
                found = pool.map(lambda case: self.ask(server, *case), cases)
                return list(tqdm(found, total=len(cases), desc="judge", unit="answer", mininterval=1))
        except BaseException:
            server.stop()
            raise
        finally:
            server.close()


# --- audit --------------------------------------------------------------------------------------------------------


def planted(cases: Iterable[tuple[str, Gold, str]], seed: int = 0) -> list[tuple[str, str, Gold, str, str]]:
    """Answers whose worth is known: (what, question, gold, response, kind), four of each case.

    right: the gold itself, and in a sentence. wrong: the gold of another case. vague: a phrase that names what was
    asked and says nothing, as judges are known to let pass.
    """
    known = [case for case in cases if case[1].kind != "rubric"]
    if len(known) < 2:
        raise RunError("an audit needs two questions with different answers at least")
    rng = random.Random(seed)
    found = []
    for question, gold, kind in known:
        others = [other for _, other, _ in known if set(other.values).isdisjoint(gold.values)]
        about = " ".join(re.sub(r"^\[[^]]*\] *", "", question).rstrip(" ?.").split()[-6:])
        found += [
            ("right", question, gold, str(gold), kind),
            ("right", question, gold, f"As far as I remember, it was {gold}.", kind),
            ("vague", question, gold, f"It was mentioned in the conversation, something about {about}.", kind),
        ]
        if others:
            found.append(("wrong", question, gold, str(rng.choice(others)), kind))
    return found


def error_rates(judge: Judge, cases: Iterable[tuple[str, Gold, str]], parallel: int = 8) -> list[dict[str, Any]]:
    """How often the judge errs on planted answers: a record for right, wrong and vague ones."""
    made = planted(cases)
    scores = judge.all([case[1:] for case in made], parallel)
    counts: dict[str, Counter[str]] = {}
    for (what, *_), score in zip(made, scores, strict=True):
        said = "unjudged" if score.value is None else "wrong" if (score.value == 1.0) != (what == "right") else "right"
        counts.setdefault(what, Counter())[said] += 1
    return [
        {
            "planted": what, "answers": count.total(), "errors": count["wrong"], "unjudged": count["unjudged"],
            "error_rate": count["wrong"] / judged if (judged := count["wrong"] + count["right"]) else None,
        }
        for what, count in counts.items()
    ]  # fmt: skip


def agreement(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Where judge and exact match both have a value: how often they agree, and the rows in which they do not.

    Each row has ``id``, ``exact`` and ``judge``. ``kappa`` is Cohen's, agreement beyond chance; None where one of them
    always says the same.
    """
    both = [row for row in rows if row["exact"] is not None and row["judge"] is not None]
    counts = Counter((bool(row["exact"]), bool(row["judge"])) for row in both)
    n = len(both)
    same = (counts[True, True] + counts[False, False]) / n if n else None
    kappa = None
    if n:
        exact, judged = (sum(c for pair, c in counts.items() if pair[k]) / n for k in (0, 1))
        by_chance = exact * judged + (1 - exact) * (1 - judged)
        kappa = (same - by_chance) / (1 - by_chance) if by_chance < 1 else None
    return {
        "answers": n, "agree": same, "kappa": kappa, "only_exact": counts[True, False],
        "only_judge": counts[False, True],
        "disagreements": [row for row in both if bool(row["exact"]) != bool(row["judge"])],
    }  # fmt: skip
