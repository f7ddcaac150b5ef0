r"""Reads an answer and scores it by type. This strict reading is the reward.

Answers are compared by type (decimals, sets of dates, sets of categories). The paper's public code (arXiv 2602.18493)
looks for the gold string inside the answer, so that "5.00" is found in "15.00" and listing every category always
wins. There is no bonus for a well-formed box: one is read where there is one and not needed otherwise.

What is read is the value in any usual dress, and nothing beside it:

====================  =====================================================  ===================================
part                  read                                                   not read
====================  =====================================================  ===================================
box                   the last ``\boxed{}`` or ``\fbox{}``; boxes with       a box within a box
                      nothing but commas, "and" or blanks between are one
                      list
LaTeX                 ``\textbf{}``, ``\mathrm{}`` and the like, ``\$``,      ``\frac``, other commands
                      ``\&``, blanks (``\,`` ``~``), ``$...$``, ``\(...\)``,
                      ``\\`` between items, braces around the whole
signs                 full-width and mathematical digits and letters,        other digits, "½", "²"
                      any hyphen, minus or short dash between digits
amount                one sign; $, US$, USD, dollars, bucks; commas, thin    other currencies, "0,012", "1,23",
                      or unbreakable blanks between groups of three          "1 234" with a common blank, words
date                  YYYY-MM-DD                                             any other order, time of day
several values        commas, semicolons, line ends, "and", "&"; bullets     "/", "or", blanks alone, words
                      and numbers of items; [], (), {} around the whole
====================  =====================================================  ===================================

A reading knows nothing of the right answer, so no answer can be right for two different ones.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

# A model that writes "\boxed" or "\text" inside a JSON string has written the escapes \b and \t, so the
# decoded argument holds a backspace or a tab instead: both spellings are read, \f of "\fbox" likewise.
_BOX_OR_BRACE = re.compile(
    r"(?P<box>(?:(?:\\b|\x08)oxed|(?:\\f|\x0c)box)\s*\{)|(?P<escaped>\\[{}])|(?P<open>\{)|(?P<close>\})"
)
_STYLE_OR_BRACE = re.compile(
    r"(?P<style>(?:(?:\\t|\t)ext(?:bf|it|rm|sf|tt|md|up|sl|sc|normal)?|\\math(?:bf|it|rm|sf|tt|normal)"
    r"|(?:\\b|\x08)(?:oldsymbol|m)|\\(?:emph|mbox|operatorname|underline))\*?\s*\{)"
    r"|(?P<escaped>\\[{}])|(?P<open>\{)|(?P<close>\})"
)
_BETWEEN_BOXES = re.compile(r"(?:[\s,;&$*，；、•]|\\[\\()\[\]]|\band\b|[-–] |\b[0-9]{1,2}[.)] )*", re.IGNORECASE)

# full-width forms, small forms and mathematical letters and digits: those whose plain form means the same
_DRESSED = re.compile("[\uff01-\uff5e\ufe50-\ufe6b\U0001d400-\U0001d7ff]")
_THIN = "\u00a0\u2007\u2009\u202f\u200a\u2006\u2005\u2004\u2002"
_GROUP = re.compile(rf"(?<=[0-9])(?:\{{,\}}|\\[,;:]|,\\!|~|[{_THIN}])(?=[0-9]{{3}}(?![0-9]))")
_DASH = re.compile("(?<=[0-9])[\u2010\u2011\u2012\u2013\u2212](?=[0-9])")
_MATH = re.compile(r"(?P<d>\$\$?)(?P<x>.*)(?P=d)|\\\((?P<y>.*)\\\)|\\\[(?P<z>.*)\\\]", re.DOTALL)
_SPACING = re.compile(r"\\(?:[,;: ]|q?quad\b|thinspace\b)|(?<=\w)~(?=\w)")

_DOLLAR = r"(?:US ?\$|USD ?\$?|\$|(?:(?:US|U\.S\.)[ -])?dollars?|bucks?)"
_AMOUNT = re.compile(
    rf"(?P<sign>[-+−‐‑]?) ?(?:{_DOLLAR} ?)?(?P<inner>[-+−‐‑]?) ?"
    rf"(?P<digits>[1-9][0-9]{{0,2}}(?:,[0-9]{{3}})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
    rf"(?: ?{_DOLLAR})?",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r"[,;&\n，；、]|\band\b", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•–]|\(?[0-9]{1,2}[.)])\s+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_QUOTES = "\"'`*_“”„‘’«»「」 \t\r\n"


GOLDS = ("amount", "dates", "categories", "label", "choice", "text", "keywords", "rubric")


@dataclass(frozen=True, slots=True)
class Gold:
    """The right answer to a question and how to compare with it.

    ========== =================================================================== ======================
    kind       values                                                              compared by
    ========== =================================================================== ======================
    amount     one decimal string, "12.50"                                         `score`, as decimals
    dates      one or more ISO dates                                               `score`, as sets
    categories one or more names                                                   `score`, as sets
    label      the label of a class, then other spellings of it                    `metrics`
    choice     the letter of an option, then its text                              `metrics`
    text       a short answer, then other answers that are as good                 `metrics`
    keywords   parts that the answer should hold                                   `metrics`
    rubric     what a good answer is like, in words                                a judge alone
    ========== =================================================================== ======================

    Raises ValueError for a gold that no answer could match (empty, malformed, a name holding a separator).
    """

    kind: Literal["amount", "dates", "categories", "label", "choice", "text", "keywords", "rubric"]
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in GOLDS:
            raise ValueError(f"Gold.kind is {self.kind!r}; use one of {', '.join(GOLDS)}")
        if not self.values or isinstance(self.values, str):
            raise ValueError(f"Gold.values is {self.values!r}; give a tuple with at least one string")
        if self.kind == "amount" and (len(self.values) != 1 or parse_amount(self.values[0]) is None):
            raise ValueError(f"amount gold {self.values!r}; give exactly one number such as ('12.50',)")
        if self.kind == "dates" and not all(_DATE.fullmatch(value) for value in self.values):
            raise ValueError(f"dates gold {self.values!r}; write every date as YYYY-MM-DD")
        if self.kind == "categories" and not all(parse_set(v) == {v.casefold()} for v in self.values):
            raise ValueError(f"categories gold {self.values!r}; names may hold no comma, semicolon, '&' or 'and'")
        if not all(isinstance(value, str) and value.strip() for value in self.values):
            raise ValueError(f"{self.kind} gold {self.values!r}; every value must be a text that is not empty")
        if self.kind == "choice" and not (len(self.values) == 2 and re.fullmatch("[a-z]", self.values[0])):
            raise ValueError(f"choice gold {self.values!r}; give the letter of the option and its text")

    @property
    def value(self) -> Decimal | frozenset[str]:
        """What answers are compared with: 12.5 is 12.50, and sets have no order."""
        if self.kind == "amount":
            return parse_amount(self.values[0])
        return frozenset(value.casefold() for value in self.values)

    def __str__(self) -> str:
        """The answer as a text that scores 1."""
        return self.values[0] if self.kind in ("label", "choice", "text") else ", ".join(self.values)


@dataclass(frozen=True, slots=True)
class Score:
    """What an answer is worth by one metric."""

    value: float | None  # 0 to 1; None: it could not be scored (no judge answered), which is not 0
    metric: str
    note: str = ""  # why


def extract_answer(text: str) -> str:
    r"""The content of the last ``\boxed{}`` with balanced braces, wherever it is; else the stripped text.

    ``\fbox{}`` is a box, too. A box that was never closed is passed over. Boxes that only list separators
    stand between are one list. A box that holds a box is given as it stands, and no scorer reads it.
    ``\text{...}`` and its like give way to their content.

    >>> extract_answer(r"First \boxed{3}, no: \boxed{12.50}. Done.")
    '12.50'
    >>> extract_answer(r"\boxed{2024-05-01} and \boxed{2024-05-03}")
    '2024-05-01, 2024-05-03'
    """
    text = _unstyled(text)
    items: list[str] = []
    start = len(text)
    for opened, begin, end, nested in reversed(list(_boxes(text))):
        if items and not _BETWEEN_BOXES.fullmatch(text, end + 1, start):
            break
        items.append(text[opened : end + 1] if nested else text[begin:end].strip())
        start = opened
    return ", ".join(reversed(items)) if items else text.strip()


def parse_amount(text: str) -> Decimal | None:
    """The number of dollars that is the WHOLE text, or None.

    Allowed around the number: one sign, the dollar's sign, code or name before or after it, quotes or emphasis
    marks, a final full stop. Inside: commas between groups of three digits. Any other word, number or currency
    gives None: no sentence is searched for its number.

    >>> parse_amount("$1,234.50"), parse_amount("12.5 USD"), parse_amount("€12.50"), parse_amount("It is 12.50")
    (Decimal('1234.50'), Decimal('12.5'), None, None)
    """
    match = _AMOUNT.fullmatch(" ".join(_bare(plain(text)).split()))
    if match is None or (match["sign"] and match["inner"]):
        return None
    sign = "" if (match["sign"] or match["inner"]) in ("", "+") else "-"
    return Decimal(sign + match["digits"].replace(",", ""))


def parse_set(text: str) -> set[str]:
    """The items of a list in lower case: split at commas, semicolons, "and", "&" and line ends.

    Brackets around the whole, quotes, bullets and numbers of items, and duplicates do not matter.

    >>> sorted(parse_set('["Dining", "Medical"]')) == sorted(parse_set("1. medical\\n2. Dining."))
    True
    """
    text = _bare(plain(text))
    if (text[:1], text[-1:]) in (("[", "]"), ("(", ")"), ("{", "}")):
        text = text[1:-1]
    items = (_bare(_BULLET.sub("", item.strip(_QUOTES))).casefold() for item in _SEPARATOR.split(text))
    return {item for item in items if item}


def score(answer: str, gold: Gold) -> float:
    r"""1.0 if the answer equals the gold by type, else 0.0.

    The answer may be the text of the final action with or without a ``\boxed{}`` (see `extract_answer`).
    Amounts: decimal equality, see `parse_amount`. Dates and categories: equality of sets, see `parse_set`; an
    extra or a missing item is wrong, dates must be written YYYY-MM-DD. An empty answer is always wrong. Golds of
    other kinds raise ValueError: `metrics` reads them.

    >>> score(r"\boxed{12.5}", Gold("amount", ("12.50",))), score("112.50", Gold("amount", ("12.50",)))
    (1.0, 0.0)
    """
    if gold.kind not in ("amount", "dates", "categories"):
        raise ValueError(f"a gold of kind {gold.kind} is compared by uma_lib.metrics")
    text = extract_answer(answer)
    return float((parse_amount(text) if gold.kind == "amount" else parse_set(text)) == gold.value)


def plain(text: str) -> str:
    r"""The text without its dress: LaTeX and full-width signs give way to plain ones, invisible signs vanish.

    >>> plain(r"$1{,}234.50\,\$$"), plain("２０２４‑05‑01")
    ('1,234.50 $', '2024-05-01')
    """
    text = _DRESSED.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = "".join(c for c in text if unicodedata.category(c) != "Cf").strip(_QUOTES)
    for _ in range(2):  # "$...$" around braces or braces around "$...$"; a lone sign is the dollar's
        if (match := _MATH.fullmatch(text)) and not text.endswith(r"\$"):
            text = next(inner for inner in match.group("x", "y", "z") if inner is not None).strip()
        if text.startswith("{") and text.endswith("}") and not text.endswith(r"\}"):
            inside = text[1:-1]
            if "{" not in inside.replace("{,}", "") and "}" not in inside.replace("{,}", ""):
                text = inside.strip()
    text = text.replace("\\\\", "\n")  # LaTeX's line end
    text = _SPACING.sub(" ", _GROUP.sub(",", text)).replace(r"\!", "")
    text = re.sub(r"\\(?:left|right)\b ?", "", text).replace(r"\textdollar", "$")
    text = re.sub(r"\\([$&%#_{}])", r"\1", text)
    return _DASH.sub("-", text).strip()


def _boxes(text: str) -> Iterator[tuple[int, int, int, bool]]:
    """Closed boxes that are in no other closed box: where each opens, where its content begins and ends, and
    whether it holds another box."""
    opened: list[tuple[int, int] | None] = []  # of every open brace; None for a plain one
    found: list[tuple[int, int, int, bool]] = []
    for match in _BOX_OR_BRACE.finditer(text):
        if match["box"]:
            opened.append(match.span())
        elif match["open"]:
            opened.append(None)
        elif match["close"] and opened and (span := opened.pop()):
            inside = False
            while found and found[-1][0] > span[0]:
                found.pop()
                inside = True
            found.append((*span, match.start(), inside))
    return iter(found)


def _unstyled(text: str) -> str:
    r"""``\text{...}``, ``\textbf{...}`` and their like give way to their content."""
    pieces: list[str] = []
    opened: list[int | None] = []  # of every open brace, where its command stands in pieces; None for a plain one
    last = 0
    for match in _STYLE_OR_BRACE.finditer(text):
        pieces.append(text[last : match.start()])
        if match["style"]:
            opened.append(len(pieces))
        elif match["open"]:
            opened.append(None)
        elif match["close"] and opened and (place := opened.pop()) is not None:
            pieces[place] = ""
            last = match.end()
            continue
        pieces.append(match[0])
        last = match.end()
    return "".join([*pieces, text[last:]])


def _bare(text: str) -> str:
    """The text without surrounding blanks, quotes and emphasis marks, and without one final full stop."""
    text = text.strip(_QUOTES)
    return text.removesuffix("." if text.endswith(".") else "。").strip(_QUOTES)
