r"""Scores of short texts, labels and choices: exact match, token F1, ROUGE-L, keyword share.

An answer is what `scoring.extract_answer` takes from what was said. Two texts are compared word by word (`words`):
case, punctuation, articles and Unicode forms do not matter, and what makes a number does. The public code around these
data sets strips all punctuation instead, so that "12.50" equals "1250" and "-5.00" equals "5.00", and calls an empty
answer right because every text holds it. Where several answers are right, the best of them counts.

=========== ======================================================== ==========================================
metric      value                                                    golds
=========== ======================================================== ==========================================
exact       1 or 0                                                   all but keywords and rubrics
f1          harmonic mean of the shares of words in common           text
rouge_l     the same of the longest common subsequence, stemmed      text
keywords    share of the keywords that occur as whole words          keywords
=========== ======================================================== ==========================================
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

import regex

from uma_lib.sample import Question
from uma_lib.scoring import Gold, Score, extract_answer, plain, score
from uma_lib.terms import number

ARTICLES = ("a", "an", "the")
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{LineBreak=SA}"  # written without blanks: a word each character
_WORD = regex.compile(
    r"(?<![\w.,])(?P<sign>-)?(?:[$€£¥] ?)?(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d|,\d)|\d+\.\d+(?!\d|\.\d))"
    r"|(?<![\w.,])(?P<negative>-\d+)(?![\w-])"
    r"|\d+(?:[.:/-]\d+)+"  # dates, times, versions
    rf"|[{_UNSPACED}]\p{{M}}*"
    rf"|(?:(?![{_UNSPACED}])[\w\p{{M}}])+(?:['’](?:(?![{_UNSPACED}])\w)+)?"
)
_LABEL = regex.compile(r"(?:the )?(?:labels?|class|category|intent)(?: number)?(?: is)?\s*[:=]?\s*(?P<label>\S.*)",
                       regex.IGNORECASE)  # fmt: skip
_LETTER = regex.compile(r"(?:option |answer |choice )?(?:\((?P<boxed>[a-z])\)|(?P<bare>[a-z])(?P<mark>[.):])?)"
                        r"(?P<rest>\s.*)?",
                        regex.IGNORECASE | regex.DOTALL)  # fmt: skip


def words(text: str) -> list[str]:
    """The words of a text as they are compared, without articles.

    >>> words("The Café's bill: $1,204.50 on 2024-05-01, -5.00 of it refunded.")
    ["café's", 'bill', '1204.5', 'on', '2024-05-01', '-5', 'of', 'it', 'refunded']
    >>> words("東京 12.50") == words("東京12.5")
    True
    """
    found = tokens(text)
    return [word for word in found if word not in ARTICLES] or found


def tokens(text: str) -> list[str]:
    """`words` with the articles."""
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", plain(text)).casefold()).translate(_MARKS)
    found = []
    for match in _WORD.finditer(text):
        if match["number"]:
            value = number(match["number"].replace(",", ""))
            found.append(("-" if match["sign"] and value != "0" else "") + value)
        else:
            found.append(match[0])
    return found


_MARKS = str.maketrans("‐‑‒–−’", "-----'")


def exact(answer: str | None, gold: Gold) -> float:
    r"""1.0 if the answer is one of the right ones, else 0.0; by type for golds of a type.

    >>> exact(r"\boxed{Chief of Protocol}", Gold("text", ("chief of protocol",)))
    1.0
    >>> exact("It is 7", Gold("label", ("7",))), exact("Label: 7", Gold("label", ("7",)))
    (0.0, 1.0)
    >>> [exact(said, Gold("choice", ("b", "Not mentioned"))) for said in ("(b)", "not mentioned", "(a) not mentioned")]
    [1.0, 1.0, 0.0]
    """
    if gold.kind in ("amount", "dates", "categories"):
        return score(answer or "", gold)
    said = plain(extract_answer(answer or ""))
    if not said:
        return 0.0
    if gold.kind == "label":
        match = _LABEL.fullmatch(said)
        return float(_label(match["label"] if match else said) in map(_label, gold.values))
    if gold.kind == "choice":
        return _choice(said, gold)
    return float(any(words(said) == words(value) for value in gold.values))


def f1(answer: str | None, gold: Gold) -> float:
    """Harmonic mean of the shares of words of answer and gold that the other has too.

    >>> f1("on 7 May 2023", Gold("text", ("7 May 2023",)))
    0.8571428571428571
    """
    said = words(extract_answer(answer or ""))
    return max(_f1(said, words(value)) for value in gold.values)


def rouge_l(answer: str | None, gold: Gold) -> float:
    """ROUGE-L by the package rouge-score, stemmed, over our `tokens`: its own drop signs, points and other letters."""
    said = extract_answer(answer or "")
    return max(float(_scorer().score(value, said)["rougeL"].fmeasure) for value in gold.values)


def keywords(answer: str | None, gold: Gold) -> float:
    """Share of the keywords that occur in the answer as whole words, in their order.

    >>> keywords("She lives in New York.", Gold("keywords", ("New York", "York", "2021", "ork")))
    0.5
    """
    said = _spaced(words(extract_answer(answer or "")))
    return sum(_spaced(words(value)) in said for value in gold.values) / len(gold.values)


METRICS = {"exact": exact, "f1": f1, "rouge_l": rouge_l, "keywords": keywords}
READS = {  # kinds of golds
    "exact": ("amount", "dates", "categories", "label", "choice", "text"), "f1": ("text",), "rouge_l": ("text",),
    "keywords": ("keywords",),
}  # fmt: skip


def scores(metrics: Sequence[str], question: Question, answer: str | None) -> tuple[Score, ...]:
    """One score a metric. A metric that says nothing about this kind of gold gives the exact one where there is one.

    So a set of several kinds has one headline: f1 for a text, exact match for a choice. A rubric has no value without a
    judge. No answer is wrong.
    """
    gold, found = question.gold, []
    note = "" if answer else "no answer"
    for metric in metrics:
        reader = next((m for m in (metric, "exact", "keywords") if gold.kind in READS[m]), None)
        value = None if reader is None else METRICS[reader](answer, gold)
        told = note if reader in (metric, None) else ", ".join(filter(None, (reader, note)))
        found.append(Score(value, metric, told if reader else "only a judge can score it"))
    return tuple(found)


def _f1(said: list[str], gold: list[str]) -> float:
    common = (Counter(said) & Counter(gold)).total()
    return 2 * common / (len(said) + len(gold)) if common else 0.0


def _spaced(found: list[str]) -> str:
    return f" {' '.join(found)} "


def _label(text: str) -> str:
    """A label without its dress: card_arrival, "Card arrival", 07 is another one than 7."""
    return regex.sub(r"[\s_-]+", " ", plain(text).casefold().strip("()[]<>.,;: \"'`*")).strip()


def _choice(said: str, gold: Gold) -> float:
    """The letter, with or without the option's text, or that text alone."""
    letter, text = gold.values
    match = _LETTER.fullmatch(said.strip(" .\"'`*"))
    if match is None or tokens(said) == tokens(text):
        return float(words(said) == words(text))
    chosen, rest = (match["boxed"] or match["bare"]).casefold() == letter, match["rest"] or ""
    if match["boxed"] or not rest.strip():
        return float(chosen)
    if words(rest) == words(text) and chosen:
        return 1.0
    return float(not match["mark"] and words(said) == words(text))  # "a dog" may be no option, but a dog


@cache
def _scorer():
    from nltk.stem import PorterStemmer  # they take a second to import
    from rouge_score.rouge_scorer import RougeScorer

    stem = PorterStemmer().stem

    class Tokenizer:
        def tokenize(self, text: str) -> list[str]:
            return [stem(word) if len(word) > 3 and word.isalpha() else word for word in tokens(text)]

    return RougeScorer(["rougeL"], tokenizer=Tokenizer())
