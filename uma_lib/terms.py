"""What a text is searched by: its BM25 terms.

- Letters are compared in Unicode's form NFKC with case folded: "STRASSE" finds "Straße", "Café" is found however
  it is composed, full-width and other digits are digits. What has no width is dropped.
- An amount is one term whatever its spelling: "$1,204.50", "1204.5", "1.204,50", "1'204.50". "12.50" is "12.5",
  but neither "12" nor "1250". A comma before just two digits marks decimals ("12,50"), and before three digits
  thousands; a point alone always marks decimals ("1.204" is less than two).
- A date with its year first is one term ("2024/5/1" as "2024-05-01"); an English or East Asian one with a year
  ("May 1, 2024") adds that term to its words. Other numbers with marks inside are one term: "10:30", "1.2.3".
- A document is also found by parts: by "2024" and "2024-05" where it holds "2024-05-01", by "10" in "10:30",
  "1234" in "555-1234", "name" in "file_name", "12" in "12USD". Parts do not count in its length, and a query has
  none: a question about one day does not match the other days of its year.
- Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese are cut into overlapping pairs of characters, as Lucene
  does with the first three; single characters are parts. Words from a dictionary are fewer and purer, but a query is
  cut otherwise than the sentence that holds it, and Korean endings stay on. Of 89 words in sentences of four
  languages (``tests/test_terms.py``) pairs find all, ICU's words 66. What pairs find beyond, in Thai above all, ranks
  lower.

Not done: stems ("coffees" is not "coffee"), accents ("cafe" is not "café"), words inside "camelCase".
"""

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

import regex

_MONTH, _DAY, _YEAR = r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])", r"(?:19|20)\d\d"
_DATE = rf"{_YEAR}(?:(?:-{_MONTH}-|/{_MONTH}/|\.{_MONTH}\.){_DAY}(?!\d)|[-/]{_MONTH}(?![-/]?\d))"
_NUMBER = (
    r"(?:[1-9]\d{0,2}(?:[,']\d{3})++(?:\.\d++)?+"  # 1,204.50
    r"|[1-9]\d?(?:,\d\d(?=,))++,\d{3}(?:\.\d++)?+"  # 12,34,567.50
    r"|[1-9]\d{0,2}(?:[.']\d{3})++,\d\d?"  # 1.204,50
    r"|\d+,\d\d)"  # 12,50
    r"(?!\d|[,']\d)"  # a list of numbers is not a number: 1,2,3
)
_TOKEN = (
    rf"[a-z]++(?!\w)|{_DATE}|(?<!\d[.,']){_NUMBER}|\d++(?:[-.:/]\d++)++|(?<![\w.])\.\d++"
    r"|[^\W\d]++(?=\d+[.,:]\d)"  # stands before a number with marks: "USD12.50", "v1.2.3", "T10:30"
    r"|\w+"
)
_ASCII_TOKEN, _ANY_TOKEN = re.compile(_TOKEN, re.ASCII), regex.compile(_TOKEN)  # re is faster, regex knows Unicode
_IS_DATE, _IS_NUMBER, _IS_DECIMAL = map(regex.compile, (_DATE, _NUMBER, r"\d*\.\d+"))
# written without blanks: LineBreak=SA are Thai, Lao, Khmer, Burmese and their kin
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Yi}\p{LineBreak=SA}ー"
_RUN = regex.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|(?:(?![{_UNSPACED}])\w)+")
_UNIT = regex.compile(r"(\d+)([^\W\d_]+)|([^\W\d_]{2,})(\d+)")  # 12usd, usd12

_MONTHS = (
    "jan(?:uary)?", "feb(?:ruary)?", "mar(?:ch)?", "apr(?:il)?", "may", "june?", "july?", "aug(?:ust)?",
    "sept?(?:ember)?", "oct(?:ober)?", "nov(?:ember)?", "dec(?:ember)?",
)  # fmt: skip
_GAP = r"[\s,./-]{1,3}"
_SPELT = regex.compile(
    rf"\b(?:({_DAY})(?:st|nd|rd|th)?(?:\sof)?{_GAP})?({'|'.join(_MONTHS)}){_GAP}"
    rf"(?:({_DAY})(?:st|nd|rd|th)?{_GAP})?({_YEAR})\b"
)
_LONE_YEAR = re.compile(rf"{_YEAR}(?![-/]\d)")  # quickly found, and without one there is no date in words
_EAST_ASIAN = regex.compile(rf"({_YEAR})\s?[年년]\s?({_MONTH})\s?[月월](?:\s?({_DAY})\s?[日일])?")
_NO_WIDTH = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
_NARROW_BLANK = regex.compile(r"(?<=\d)[\u00a0\u2007\u2009\u202f](?=\d{3}(?!\d))")  # marks thousands
_OTHER_DIGIT = regex.compile(r"(?![0-9])\d")
_MARKS = str.maketrans("‐‑‒–—―−⁄∕‘’ʼ٫٬", "-------//'''.,")


def terms(text: str) -> list[str]:
    """The terms of a text in order; those of a query.

    >>> terms("Paid $1,204.50 on 2024-05-01, for Coffee.")
    ['paid', '1204.5', 'on', '2024-05-01', 'for', 'coffee']
    >>> terms("CAFÉ 东京塔")
    ['café', '东京', '京塔']
    """
    return analyse(text)[0]


def analyse(text: str) -> tuple[list[str], list[str]]:
    """The terms of a document, and the parts of them that find it too.

    >>> analyse("2024-05-01 10:30")
    (['2024-05-01', '10:30'], ['2024', '2024-05', '10', '30'])
    """
    found: list[str] = []
    parts: list[str] = []
    text = _fold(text)
    for token in (_ASCII_TOKEN if text.isascii() else _ANY_TOKEN).findall(text):
        if token.isascii() and token.isalpha():
            found.append(token)
        else:
            whole, pieces = _read(token)
            found += whole
            parts += pieces
    return found, parts


def _fold(text: str) -> str:
    """Lower case and one spelling for what is the same; a date in words is followed by its numbers."""
    if text.isascii():
        text = text.lower()
    else:
        text = _NARROW_BLANK.sub("'", _NO_WIDTH.sub("", text))
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_MARKS)
        text = _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
        text = _EAST_ASIAN.sub(lambda date: f"{date[0]} {_iso(*date.groups())} ", text)
    return _SPELT.sub(_spelt, text) if _LONE_YEAR.search(text) else text


def _spelt(date: regex.Match) -> str:
    month = next(number for number, name in enumerate(_MONTHS, start=1) if regex.fullmatch(name, date[2]))
    return f"{date[0]} {_iso(date[4], month, date[1] or date[3])} "


def _iso(*numbers: str | int | None) -> str:
    return "-".join(f"{int(number):02}" for number in numbers if number is not None)


@lru_cache(1 << 14)  # dates and amounts come again and again
def _read(token: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The terms and the parts of a token that is not just ASCII letters."""
    if _IS_DATE.fullmatch(token):
        date = _iso(*regex.split("[-/.]", token))
        return (date,), tuple(date[:end] for end in (4, 7) if end < len(date))
    if _IS_NUMBER.fullmatch(token):
        if "," in token[-3:]:
            token = token.replace(".", "").replace(",", ".")
        return (number(token.replace(",", "").replace("'", "")),), ()
    if _IS_DECIMAL.fullmatch(token):
        return (number(token),), ()
    if "." in token or not token.isalnum() and regex.search("[-:/]", token):
        return (token,), _runs(token)
    words: list[str] = []
    parts: list[str] = []
    for run in _RUN.finditer(token):
        if run["unspaced"]:
            characters = regex.findall(r"\X", run[0])  # with the vowel signs that belong to them
            words += ["".join(pair) for pair in pairwise(characters)] or characters
            parts += characters if len(characters) > 1 else ()
        elif word := run[0].strip("_"):
            words.append(word)
            unit = _UNIT.fullmatch(word)
            parts += filter(None, unit.groups() if unit else word.split("_") if "_" in word else ())
    return tuple(words), tuple(parts)


def number(digits: str) -> str:
    """Digits with at most one point, without zeros that say nothing.

    >>> [number(text) for text in ("12.50", "012.00", ".5", "100", "007")]
    ['12.5', '12', '0.5', '100', '007']
    """
    if "." not in digits:
        return digits
    whole, decimals = digits.split(".")
    return ".".join(filter(None, (whole.lstrip("0") or "0", decimals.rstrip("0"))))


def _runs(token: str) -> tuple[str, ...]:
    """The pieces of a number with marks inside, and up to four neighbours together; in a range they are decimals.

    >>> _runs("1.2.3"), _runs("12.50-15.00")
    (('1', '1.2', '2', '2.3', '3'), ('12.5', '15'))
    """
    pieces = list(regex.finditer(r"[\d.]+" if regex.search("[-:/]", token) else r"\d+", token))
    found = (
        token[first.start() : last.end()]
        for place, first in enumerate(pieces)
        for last in pieces[place : place + 4]
        if last is not pieces[-1] or first is not pieces[0]
    )
    return tuple(number(text) if _IS_DECIMAL.fullmatch(text) else text for text in found)
