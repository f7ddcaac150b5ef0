r"""Typed scoring of answers, session rewards and stratified group advantages.

Sources: the reward, the trajectory return (eq. 4) and the task-stratified advantages are those of UMA
(arXiv 2602.18493). Deviations from the paper and from its public code:

- Answers are compared by type (decimals, sets of dates, sets of categories). The public code looks for the
  gold string inside the answer, so that "5.00" is found in "15.00" and listing every category always wins.
- There is no bonus for a well-formed ``\boxed{}``: a box is read where there is one and not needed otherwise.
- A session without tool calls has tool reward 1, so an idle ``list`` can only lose reward, never earn any.
- A group of one has advantage 0 (the public code keeps its raw reward).
"""

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

# A model that writes "\boxed" or "\text" inside a JSON string has written the escapes \b and \t, so the
# decoded argument holds a backspace or a tab instead: both spellings are read.
_BOX_OR_BRACE = re.compile(r"(?P<box>(?:\\b|\x08)oxed\s*\{)|(?P<open>\{)|(?P<close>\})")
_TEXT_COMMAND = re.compile(r"(?:\\t|\t)ext\s*\{([^{}]*)\}")

_UNIT = r"(?:US\$|[$€£¥￥元]|USD|EUR|GBP|CNY|RMB|JPY|dollars?|euros?|pounds?|yuan|yen)"
_AMOUNT = re.compile(
    rf"(?P<sign>[-+−]?) ?(?:{_UNIT} ?)?(?P<inner>[-+−]?) ?"
    rf"(?P<digits>[0-9]{{1,3}}(?:,[0-9]{{3}})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
    rf"(?: ?{_UNIT})?",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r"[,;\n，；、]|\band\b", re.IGNORECASE)
_BULLET = re.compile(r"^\s*[-*•]\s+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_QUOTES = "\"'`*“”‘’ \t\r\n"


@dataclass(frozen=True, slots=True)
class Gold:
    """The right answer to a question and how to compare with it.

    ``values`` is one decimal string ("12.50") for an amount, else one or more ISO dates or category names.
    Raises ValueError for a gold that no answer could match (empty, malformed, a name holding a separator).
    """

    kind: Literal["amount", "dates", "categories"]
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in ("amount", "dates", "categories"):
            raise ValueError(f"Gold.kind is {self.kind!r}; use 'amount', 'dates' or 'categories'")
        if not self.values or isinstance(self.values, str):
            raise ValueError(f"Gold.values is {self.values!r}; give a tuple with at least one string")
        if self.kind == "amount" and (len(self.values) != 1 or parse_amount(self.values[0]) is None):
            raise ValueError(f"amount gold {self.values!r}; give exactly one number such as ('12.50',)")
        if self.kind == "dates" and not all(_DATE.fullmatch(value) for value in self.values):
            raise ValueError(f"dates gold {self.values!r}; write every date as YYYY-MM-DD")
        if self.kind == "categories" and not all(parse_set(v) == {v.casefold()} for v in self.values):
            raise ValueError(f"categories gold {self.values!r}; names may hold no comma, semicolon or 'and'")


def extract_answer(text: str) -> str:
    r"""The content of the last ``\boxed{}`` with balanced braces, wherever it is; else the stripped text.

    A box that was never closed is passed over, of nested boxes the innermost counts. ``\text{...}`` gives way
    to its content.

    >>> extract_answer(r"First \boxed{3}, no: \boxed{12.50}. Done.")
    '12.50'
    """
    text = _TEXT_COMMAND.sub(r"\1", text)
    opened: list[int | None] = []  # where the content of every open brace starts; None for a plain brace
    start, end = -1, -1
    for match in _BOX_OR_BRACE.finditer(text):
        if match["box"]:
            opened.append(match.end())
        elif match["open"]:
            opened.append(None)
        elif opened:
            begin = opened.pop()
            if begin is not None and begin > start:
                start, end = begin, match.start()
    return (text if start < 0 else text[start:end]).strip()


def parse_amount(text: str) -> Decimal | None:
    """The number that is the WHOLE text, or None.

    Allowed around the number: one sign, a currency sign, code or name before or after it (which currency is
    not compared: a ledger has one), quotes or emphasis marks, a final full stop. Inside: commas between
    groups of three digits. Any other word or number gives None: no sentence is searched for its number.

    >>> parse_amount("$1,234.50"), parse_amount("12.5 USD"), parse_amount("The total is 12.50")
    (Decimal('1234.50'), Decimal('12.5'), None)
    """
    match = _AMOUNT.fullmatch(" ".join(_bare(text).split()))
    if match is None or (match["sign"] and match["inner"]):
        return None
    sign = "-" if (match["sign"] or match["inner"]) in ("-", "−") else ""
    return Decimal(sign + match["digits"].replace(",", ""))


def parse_set(text: str) -> set[str]:
    """The items of a list in lower case: split at commas, semicolons, "and" and line ends.

    Brackets around the whole, quotes and bullets around an item, and duplicates do not matter.

    >>> sorted(parse_set('["Dining", "Medical"]')) == sorted(parse_set("medical and Dining."))
    True
    """
    text = _bare(text)
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    items = (_bare(_BULLET.sub("", item)).casefold() for item in _SEPARATOR.split(text))
    return {item for item in items if item}


def score(answer: str, gold: Gold) -> float:
    r"""1.0 if the answer equals the gold by type, else 0.0.

    The answer may be the text of the final action with or without a ``\boxed{}`` (see `extract_answer`).
    Amounts: decimal equality, see `parse_amount`. Dates and categories: equality of sets, see `parse_set`; an
    extra or a missing item is wrong, dates must be written YYYY-MM-DD. An empty answer is always wrong.

    >>> score(r"\boxed{12.5}", Gold("amount", ("12.50",))), score("112.50", Gold("amount", ("12.50",)))
    (1.0, 0.0)
    """
    text = extract_answer(answer).replace(r"\$", "$")
    if gold.kind == "amount":
        amount = parse_amount(text)
        return float(amount is not None and amount == parse_amount(gold.values[0]))
    return float(parse_set(text) == {value.casefold() for value in gold.values})


def tool_reward(valid: int, calls: int) -> float:
    """r_tool: the share of a session's tool calls that succeeded, in [0, 1]; 1.0 without any call.

    The share of no calls is undefined in the paper; 1.0 makes an invalid call a loss and an idle one no gain.
    """
    if not 0 <= valid <= calls:
        raise ValueError(f"{valid} valid of {calls} calls; need 0 <= valid <= calls")
    return valid / calls if calls else 1.0


def question_reward(outcome: float, r_tool: float, lambda_tool: float) -> float:
    """R_ij = lambda_tool * r_tool + r_outcome of one question session (lambda_tool is 0.5 in the paper)."""
    return lambda_tool * r_tool + outcome


def trajectory_return(question_rewards: Sequence[float]) -> float:
    """G_i, the mean reward of the questions asked from one final memory (paper, eq. 4)."""
    if not question_rewards:
        raise ValueError("a trajectory without questions has no return; ask at least one question")
    # fsum: the same rewards in another order give the same return, bit for bit
    return math.fsum(question_rewards) / len(question_rewards)


def group_advantages(
    rewards: Sequence[float], groups: Sequence[Hashable], std_floor: float = 0.0
) -> list[float]:
    """Advantages (r - mean) / max(std, std_floor) within each group, in the order of ``rewards``.

    ``groups[i]`` names the group of ``rewards[i]``. Task-stratified: the memory trajectories of a context
    share ("memory", context), the sessions of its question j share ("question", context, j); one constant for
    all is the single-group ablation. std is the population standard deviation. A group of one, or one whose
    rewards are all equal up to rounding (1e-9; rewards are of order one), gets 0.0: it cannot say what was
    better. Raises ValueError for unequal lengths or a reward that is not finite.

    >>> group_advantages([1.0, 0.0, 7.0], ["a", "a", "b"])
    [1.0, -1.0, 0.0]
    """
    if len(rewards) != len(groups):
        raise ValueError(f"{len(rewards)} rewards but {len(groups)} group names; give one name a reward")
    if not all(math.isfinite(reward) for reward in rewards):
        raise ValueError("a reward is not finite; every reward must be a finite number")
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    advantages = [0.0] * len(rewards)
    for indices in members.values():
        values = [rewards[i] for i in indices]
        scale = max(1.0, *(abs(value) for value in values))
        if max(values) - min(values) <= 1e-9 * scale:  # rounding must not be blown up to +-1
            continue
        mean = math.fsum(values) / len(values)
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        for i in indices:
            advantages[i] = (rewards[i] - mean) / max(std, std_floor)
    return advantages


def _bare(text: str) -> str:
    """The text without surrounding blanks, quotes and emphasis marks, and without one final full stop."""
    return text.strip(_QUOTES).removesuffix(".").strip(_QUOTES)
