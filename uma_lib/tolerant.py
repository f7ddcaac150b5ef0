r"""A tolerant reading of free text, for evaluation beside the strict score; never a reward.

Chat models wrap the value in a sentence, which the strict reading (`scoring.score`) does not open. Here a text counts
as the value of the kind asked if it holds exactly one such value, once or repeated, and nothing that takes it back:

- What the strict reading reads is read as there. Of boxes only the content counts, see `scoring.extract_answer`.
- Amount: "The total is $12.50", "Dining: 12.50", "On 2024-05-01 you spent 12.50 dollars." Dates and numbers of
  sessions are no amounts; numbers of things ("3 purchases") only where there is no other. "nothing", "none" and
  "zero" are 0. A sum or list of several numbers, other currencies, and numbers before an unknown word are not read.
- Dates: also 2024/5/1, 2024.05.01, May 1, 2024, 1 May 2024, 2024年5月1日. 13/05/2024 is read, 05/06/2024 is not, as
  day and month could change places. Several dates must stand in one list; a range or a day without its year is
  not read.
- Categories: the known names as whole words, several in one list; "Other" only with a capital and no noun behind it.
- Negations, hedges and alternatives ("not", "about", "at least", "maybe", "or", "?") make any text unreadable.

The reading knows nothing of the right answer, so no text is right for two golds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal

from uma_lib.scoring import Gold, extract_answer, parse_amount, parse_set, plain, score

LONGEST = 5_000  # characters; a text that goes on for longer states no one value
_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = rf"(?:{'|'.join(f'{m[:3]}(?:{m[3:]})?' if m[3:] else m for m in _MONTHS)}|sept)\b\.?"
_DATE = re.compile(
    rf"\b(?P<y>[0-9]{{4}})(?P<sep>[-/.])(?P<m>[0-9]{{1,2}})(?P=sep)(?P<d>[0-9]{{1,2}})"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?Z?)?(?![\w/-]|\.[0-9])"
    rf"|(?P<y2>[0-9]{{4}})年(?P<m2>[0-9]{{1,2}})月(?P<d2>[0-9]{{1,2}})日"
    rf"|\b(?P<a>[0-9]{{1,2}})(?P<sep2>[/.-])(?P<b>[0-9]{{1,2}})(?P=sep2)(?P<y3>[0-9]{{4}})(?![\w/-]|\.[0-9])"
    rf"|\b(?P<m4>{_MONTH})[ -]?(?P<d4>[0-9]{{1,2}})(?:st|nd|rd|th)?,?[ -]?(?P<y4>[0-9]{{4}})(?!\w|[.,][0-9])"
    rf"|\b(?P<d5>[0-9]{{1,2}})(?:st|nd|rd|th)?[ -](?:of )?(?P<m5>{_MONTH}),?[ -]?(?P<y5>[0-9]{{4}})(?!\w|[.,][0-9])",
    re.IGNORECASE,
)
_DAY = "\ue000"  # stands for a date; a private character, which no reading knows otherwise
_WEEKDAY = re.compile(r"\(?\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b\)?,?(?: the\b)?", re.IGNORECASE)
_PART_OF_DATE = re.compile(
    rf"\b{_MONTH} [0-9]{{1,4}}(?:st|nd|rd|th)?\b(?![.,][0-9])|\b[0-9]{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH}"
    r"|\b[0-9]{1,2}(?:st|nd|rd|th)\b|\b(?:in|during|since) (?:19|20)[0-9]{2}\b(?![.,][0-9])",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    r"\b(?:session|day|step|question|turn|entry|chunk|line)s? (?:no\. ?|#)?[0-9]+\b(?![.,][0-9])", re.IGNORECASE
)

_TAKEN_BACK = re.compile(
    r"\b(?:not|never|cannot|neither|nor|or|either|maybe|perhaps|possibly|probably|likely|(?-i:might|may)|could|guess\w*"
    r"|unsure|uncertain|unclear|unknown|doubt\w*|suppos\w*|presum\w*|assum\w*|wrong|incorrect\w*|false|approx\w*|roughly"
    r"|nearly|almost|circa|ca|estimated?|instead|hardly|barely|used to|previously|formerly|upwards|rather|except"
    r"|excluding|without|unless|if|but|versus|vs|compared|minus|negative|at (?:least|most))\b"
    r"|\b(?:than|between|about|around|over|under|above|below|exceeds|near|some|to the nearest|half|third|quarter"
    r"|percent|twice|thrice|double|times|less|close to|far from"
    r"|(?<!adds )(?<!add )(?<!added )up to) (?:a |the |of )*[$\d]|n['’]t\b|[0-9]\+(?!\s*[$\d])|[~≈±?<>≤≥\\]",
    re.IGNORECASE,
)
_ADDED = re.compile(r"[0-9].*\b(?:and|plus|minus|times) (?:another )?[$0-9]", re.IGNORECASE)
_NO = re.compile(r"\bno\b(?! ?[.#])", re.IGNORECASE)
_FOREIGN = re.compile(
    r"\b(?:euros?|pounds?|sterling|yen|yuan|renminbi|pesos?|rupees?|francs?|r(?:o)?ubles?|kron[ae]r?|cents?|penn(?:y|ies)|pence"
    r"|canadian|australian|aussie|singapore"
    r"|(?:hong kong|taiwan|new zealand|mexican|chinese|japanese|british|indian|swiss) ?|(?-i:R|Bs)(?= ?[0-9])"
    r"|kč|zł|kr|rs|fr|rp|rm|eur|gbp|cny|rmb|jpy|chf|cad|aud|nzd|hkd|sgd|inr|krw|twd|mxn|brl|rub|sek|nok|dkk)\b"
    r"|\b(?!US\$|USD\$)[^\W\d_]{1,4}\$|(?-i:\b(?!USD? ?\$?|US\$)[A-Z]{2,3} ?\$? ?[0-9])"
    r"|[¢-¥֏؋৲৳฿៛₠-⃏元円圆]",
    re.IGNORECASE,
)
_DOLLAR = r"(?:US ?\$|USD ?\$?|\$|(?:(?:US|U\.S\.)[ -])?dollars?\b|bucks?\b)"
_NUMBER = re.compile(
    rf"(?<![\w.,$/])(?P<sign>[-−])?(?:(?P<before>{_DOLLAR}) ?)?(?P<inner>[-−])?"
    r"(?P<digits>[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?![\w%]|[.,:/-][0-9])"
    rf"(?: ?(?P<after>{_DOLLAR}))?(?P<next>[ -]?[^\W\d_]+|[ ,;]*[-+*×÷/^x=]? ?[$\d])?",
    re.IGNORECASE,
)
_GOES_ON = set(  # a number before another word may count something else
    "in on for total overall altogether at from during spent was is that which as this by through with your you i we "
    "my the to across has have had were are recorded today yesterday".split()
)
_THINGS = set(
    "purchases purchase transactions transaction entries entry items item times time days day sessions session "
    "payments payment expenses expense visits visit records record cancelled cancellations revisions refunds".split()
)
_ZERO = re.compile(
    r"\b(?:nothing|none|zero|nil"
    r"|no (?:\w+ )?(?:purchases?|expenses?|spending|transactions?|money|entries)(?: on \w+)?)\b",
    re.IGNORECASE,
)
_SEARCHED = re.compile(
    r"\b(?:f[io]und?|memory|record\w*|information|data|know\w*|available|stor\w+|see|mention\w*|match\w*|of)\b", re.I
)
_LIST = re.compile(r"(?:[\s,;&*•、，；()\"'`{}\[\]]|\band\b|\bon\b|\bthe\b|\b[0-9]{1,2}[.)] )*", re.IGNORECASE)
_BULLET = re.compile(r"^[ \t]*[-*•–][ \t]+", re.MULTILINE)
_MARKUP = re.compile(r"\\[()\[\]]|</?[a-z]+>|\*\*|__")
_NOUN_BEHIND = re.compile(r"\s+(?!(?:and|with|is|was|at|for|on|had|has)\b)[a-z]")
_BESIDE_DAY = re.compile(rf"\b(?:from|between|after|before|since|until|till|through|than|by) (?:the )?{_DAY}", re.I)


def score_tolerant(answer: str, gold: Gold, names: Sequence[str]) -> float:
    """1.0 if what the answer says equals the gold, else 0.0. ``names`` are all categories that there are.

    Whatever `scoring.score` counts as right is right here. Raises ValueError for a gold category not in ``names``.

    >>> total, names = Gold("amount", ("12.50",)), ("Dining", "Medical", "Other")
    >>> score_tolerant("The total is $12.50.", total, names), score_tolerant("€12.50", total, names)
    (1.0, 0.0)
    >>> score_tolerant("It was Dining.", Gold("categories", ("Dining",)), names)
    1.0
    """
    known = frozenset(name.casefold() for name in names)
    if gold.kind == "categories" and not gold.value <= known:
        raise ValueError(f"gold categories {gold.values!r}; names are {', '.join(names)}")
    if score(answer, gold):
        return 1.0
    text = extract_answer(answer)
    if len(text) > LONGEST:
        return 0.0
    if gold.kind == "amount":
        return float(read_amount(text) == gold.value)
    return float((read_dates(text) if gold.kind == "dates" else read_categories(text, names)) == gold.value)


def read_amount(text: str) -> Decimal | None:
    """The one amount of dollars in a text; None where there is none, or more than one.

    >>> read_amount("On 2024-05-01 you spent $12.50 on Dining."), read_amount("$5 + $7 = $12"), read_amount("nothing")
    (Decimal('12.50'), None, Decimal('0'))
    """
    if (amount := parse_amount(text)) is not None:
        return amount
    text, _ = _dates_apart(text)
    text = _NUMBERED.sub(" ", _PART_OF_DATE.sub(_DAY, text))
    if _TAKEN_BACK.search(text) or _FOREIGN.search(text) or _ADDED.search(text):
        return None
    amounts: set[Decimal] = set()
    counts: set[Decimal] = set()

    def one(match: re.Match[str]) -> str:
        word = (match["next"] or "").strip()
        if word and not word[0].isalpha() or (match["sign"] and match["inner"]):
            return match[0]  # a list or a sum
        number = Decimal(("-" if match["sign"] or match["inner"] else "") + match["digits"].replace(",", ""))
        counted = word.casefold() in _THINGS and not match["before"] and not match["after"]
        if not counted and word and word.casefold() not in _GOES_ON:
            return match[0]
        (counts if counted else amounts).add(number)
        return f" {word}"

    rest = _NUMBER.sub(one, text)
    if any(c.isnumeric() for c in rest):
        return None
    if _ZERO.search(rest):
        if _SEARCHED.search(rest):  # "I found nothing" says not that it was 0
            return None
        amounts.add(Decimal(0))
    found = amounts or counts
    return found.pop() if len(found) == 1 and not _NO.search(_ZERO.sub(" ", rest)) else None


def read_dates(text: str) -> frozenset[str] | None:
    """The dates in a text, written YYYY-MM-DD; None where there is none, or not one list of whole dates.

    >>> sorted(read_dates("On May 1, 2024 and 2024/05/03.")), read_dates("from 2024-05-01 to 2024-05-03")
    (['2024-05-01', '2024-05-03'], None)
    """
    items = parse_set(text)
    if items and all(re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", item) for item in items):
        return frozenset(items)
    text, days = _dates_apart(text)
    if not days or None in days or _TAKEN_BACK.search(text) or _NO.search(text) or _BESIDE_DAY.search(text):
        return None
    # what is left of numbers must count things or money: "May 1 and 3, 2024" has a day of its own
    rest = re.sub(rf"\$ ?[0-9][0-9,]*(?:\.[0-9]+)?\b|\b[0-9]+ (?:\w+ )?(?:{'|'.join(_THINGS)})\b", " ", text)
    rest = re.sub(r"(?:^|(?<=\s))\(?[0-9]{1,2}[.)] (?=\W*\ue000)", " ", rest)
    if any(c.isnumeric() for c in rest) or re.search(rf"\b(?!may\b){_MONTH}", rest, re.IGNORECASE):
        return None
    places = [match.span() for match in re.finditer(_DAY, text)]
    return _one_list(text, [(*place, day) for place, day in zip(places, days, strict=True)])


def read_categories(text: str, names: Sequence[str]) -> frozenset[str] | None:
    """The known categories in a text, in lower case; None where there is none, or not one list of them.

    >>> read_categories("The category is Dining.", ("Dining", "Other")), read_categories("not Dining", ("Dining",))
    (frozenset({'dining'}), None)
    """
    items = parse_set(text)
    known = {name.casefold() for name in names}
    if items and items <= known:
        return frozenset(items)
    text = _undressed(text)
    if _TAKEN_BACK.search(text) or _NO.search(text):
        return None
    longest_first = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    if re.search(rf"\b(?:than|over|after|unlike|behind) (?:{longest_first})\b", text, re.IGNORECASE):
        return None
    pattern = re.compile(rf"(?<![\w-])(?:{longest_first})(?!\w)", re.IGNORECASE)
    found = []
    for match in pattern.finditer(text):
        if match[0].casefold() == "other" and (match[0] == "other" or _NOUN_BEHIND.match(text, match.end())):
            continue
        found.append((*match.span(), match[0].casefold()))
    return _one_list(text, found, "/")


def _one_list(text: str, found: Iterable[tuple[int, int, str]], also: str = "") -> frozenset[str] | None:
    """The values if they stand in one list, which may be repeated: (begin, end, value) of each, in order."""
    lists: list[set[str]] = []
    last = 0
    for begin, end, value in found:
        between = text[last:begin].replace(also, ",") if also else text[last:begin]
        if lists and between.strip() and _LIST.fullmatch(between):
            lists[-1].add(value)
        else:
            lists.append({value})
        last = end
    return frozenset(lists[0]) if lists and all(one == lists[0] for one in lists) else None


def _dates_apart(text: str) -> tuple[str, list[str | None]]:
    """The plain text with `_DAY` for every date, and the dates; None for one that is none or could be two."""
    days: list[str | None] = []

    def one(match: re.Match[str]) -> str:
        days.append(_day(match))
        return _DAY

    text = _DATE.sub(one, _undressed(text.replace(_DAY, " ")))
    return " ".join(_WEEKDAY.sub(" ", text).split()), days


def _undressed(text: str) -> str:
    """Plain text on one line; items of a list are set apart by commas."""
    text = _MARKUP.sub(" ", plain(_BULLET.sub(", ", text)))
    return re.sub(r"\$\$+", "$", " ".join(text.split()))


def _day(match: re.Match[str]) -> str | None:
    year = next(filter(None, match.group("y", "y2", "y3", "y4", "y5")))
    if match["a"]:
        a, b = int(match["a"]), int(match["b"])
        if a <= 12 and b <= 12 and a != b:
            return None
        day, month = (a, b) if b <= 12 else (b, a)
    else:
        month, day = next(pair for n in ("", "2", "4", "5") if (pair := match.group(f"m{n}", f"d{n}"))[0])
        if not month.isdigit():
            month = 1 + [name[:3] for name in _MONTHS].index(month[:3].casefold())
    try:
        return date(int(year), int(month), int(day)).isoformat()
    except ValueError:  # no day of the calendar
        return None

