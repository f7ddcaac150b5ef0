"""Dialogues in other words: any OpenAI-compatible server rewrites utterances, and every answer is checked.

The templates of `language` make every fact right by construction and repeat themselves. A chat model speaks more
freely, and gets facts wrong; so it is asked for words only, and what it says is taken only if all facts are still
there. The ground truth (expenses, events, turns, questions) is never touched.

    [2024-05-01] User said, "Also, I spent $12.50 on a taxi."
    [2024-05-01] User said, "I took a taxi and it was $12.50."      # the same, rewritten

One utterance at a time: with nine lines in ten right, a whole dialogue of 20 would survive one time in eight. A single
line, with the words to keep named beside it, costs one line when it fails, keeps the number and order of turns by
construction, and can be cached: the same line comes back in many dialogues.

No check can prove that a line still means the same. So the rule is conservative:

- asked for: what the user says where purchases are told, the assistant's answer to it if it names no fact, small talk;
- never touched: amounts that were not paid (plans, prices, other people), revisions and late entries, requests that
  name no amount yet ("I have coffee to record."), and whatever refers to a purchase afterwards ("that $9 for coffee,
  did you note it?", "No, Dining.", "It was $4.57.");
- every amount, day, category and thing that was said is still said, and none is new (see `found`); a purchase gains no
  word that could undo it ("not", "nearly", "might", "twice", "she") and keeps one of payment, small talk gains none;
  questions stay questions, and the user stays the speaker.

What fails stays as it was and is counted by reason. Not checked: grammar, taste, and whether small talk keeps its
topic; read some lines before you use them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from uma_lib.files import RunError
from uma_lib.ledger.language import CATEGORIES, MONTHS, NUMBERS, TAXONOMY
from uma_lib.ledger.streams import Session
from uma_lib.server import Server
from uma_lib.tools import split_thought

ASKED = ("purchase", "answer", "talk")  # kinds of utterances that may be rewritten, see `utterances`
_RANGES = {"variants": (1, 1000), "tries": (1, 1000), "max_tokens": (1, 10**6), "parallel": (1, 1000),
           "temperature": (0, 10)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RewriteConfig:
    """Which server, and what is asked for.

    >>> RewriteConfig("http://localhost:8000/v1", "qwen3-4b").kinds
    ('purchase', 'answer', 'talk')
    """

    base_url: str = field(repr=False)  # up to and with /v1; its path may hold a key
    model: str  # its name at the server
    key_variable: str | None = None  # environment variable that holds the API key, if the server wants one
    kinds: tuple[str, ...] = ASKED  # of utterances; weak models talk nonsense where no fact holds them
    variants: int = 8  # most different wordings of one utterance; more cost more requests
    tries: int = 2  # answers asked for until one passes the checks
    temperature: float = 0.8
    max_tokens: int = 120  # of one answer; models that think first need several hundred
    parallel: int = 4  # requests at a time
    timeout: float = 120.0  # seconds without a sign of the server
    patience: float = 600.0  # seconds for which a request that fails for a passing reason is tried again

    def __post_init__(self) -> None:
        if not self.kinds or set(self.kinds) - set(ASKED):
            raise ValueError(f"kinds is {list(self.kinds)}; name some of {', '.join(ASKED)}")
        for name, (least, most) in _RANGES.items():
            if not least <= getattr(self, name) <= most:  # nan is in no range
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least} and at most {most}")
        if not self.model.strip() or not self.model.isprintable():
            raise ValueError(f"model is {self.model!r}; give the name that the server knows the model by")


# --- facts in a text ----------------------------------------------------------------------------------------------

def _any(words: Iterable[str]) -> str:
    """A pattern for one of ``words``, the longest that fits; a hyphen may be a blank."""
    return "|".join(re.escape(word).replace(r"\-", "[ -]") for word in sorted(words, key=len, reverse=True))


_WORD = rf"\b(?:{_any(NUMBERS)})\b"
_TWO_DIGITS = rf"(?:{_any(word for word, n in NUMBERS.items() if n > 9)})"
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_START, _END = r"(?<![\w.,$-])(?<!\$ )", r"(?![\w%]|[.,]\d)"  # no part of "1.5k", "-2", "1,50" or "C$2"
_FIGURE = rf"{_START}{_DIGITS}(?:\.\d+)?{_END}"
_DOLLARS = r"(?:US )?(?:dollars?|bucks?|USD)\b"
_MONTH = rf"(?-i:{_any(MONTHS)})"  # "may" is no month
_WEEKDAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
_THINGS = {
    said.removeprefix("a ").removeprefix("an ").removeprefix("the ")
    for scenes in TAXONOMY.values() for scene, phrase in scenes.items() for said in (scene, phrase)
}  # fmt: skip
_KINDS = {  # in the order in which they are tried at one place
    "thing": rf"\b(?:{_any(_THINGS)})\b",
    "category": rf"\b(?:{_any(c for c in CATEGORIES if c != 'Other')}|(?-i:Other))\b",
    "day": (
        r"\b\d{4}-\d\d-\d\d\b|\b\d{1,2}/\d{1,2}(?:/\d{2,4})?\b"
        rf"|\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}}\b)?"
        rf"|\b\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH}\b(?:,? \d{{4}}\b)?|\b{_MONTH}\b|\b{_WEEKDAY}\b"
        r"|\bday before yesterday\b|\b(?:yesterday|today|tonight|tomorrow|the other day|these days)\b"
        rf"|(?:\b\d+|{_WORD}|\ba few|\ban?) (?:hour|day|week|month|year)s? ago\b"
        rf"|\b(?:last|next|this|past|previous|coming) (?:{_WEEKDAY}|morning|afternoon|evening|night|time|month|year"
        r"|week(?:end)?)\b"
    ),
    "amount": (
        rf"-?(?<!\w)(?:US)?\$ ?{_DIGITS}(?:\.\d+)?{_END}(?: {_DOLLARS})?|\bUSD {_FIGURE}"
        rf"|(?:{_FIGURE}|{_WORD}) {_DOLLARS}(?:,? and (?:\d\d?|{_WORD}) cents?\b)?|(?:\b\d\d?|{_WORD}) cents?\b"
        rf"|{_WORD} {_TWO_DIGITS}\b(?: {_DOLLARS})?"
        rf"|{_START}{_DIGITS}\.\d\d{_END}"  # two decimals say that it is money
    ),
    "number": (
        rf"\d[\w.,%]*\w|\d|(?!one\b){_WORD}|[€£¥₹]"
        r"|\b(?:hundreds?|thousands?|millions?|dozens?|grand|euros?|eur|pounds?|gbp|yen|yuan|rmb|rupees?|pesos?|cad|aud)\b"
    ),
}
_FACT = re.compile(  # nothing begins within a word, except for figures
    rf"(?:(?<!\w)|(?=\d))(?:{'|'.join(f'(?P<{kind}>{pattern})' for kind, pattern in _KINDS.items())})", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that must not be lost or invented: ``value`` is for comparing, ``words`` is how it was said."""

    kind: str  # "amount", "number" (of which it is not clear that it is money), "day", "category", "thing"
    value: Decimal | str
    words: str


def found(text: str) -> list[Fact]:
    """The facts in ``text``, in order.

    Amounts in words are understood up to ninety-nine dollars, as `language.spoken` says them; larger ones in words,
    other currencies and "1.5k" are numbers of unknown meaning, so that they count as invented.

    >>> [(fact.kind, str(fact.value)) for fact in found("Yesterday the gas bill was twelve fifty, not $1,204.")]
    [('day', 'yesterday'), ('thing', 'gas bill'), ('amount', '12.5'), ('amount', '1204')]
    """
    text = unicodedata.normalize("NFKC", text)
    return [Fact(m.lastgroup, _value(m.lastgroup, m[0].lower()), m[0]) for m in _FACT.finditer(text)]


def _value(kind: str, said: str) -> Decimal | str:
    if kind == "day":
        said = re.sub(_WORD, lambda m: str(_number(m[0])), said)
        if full := re.fullmatch(r"(?:(\d+)\w* (?:of )?([a-z]+)|([a-z]+) (\d+)\w*),? (\d{4})", said):
            day, month = int(full[1] or full[4]), MONTHS.index((full[2] or full[3]).capitalize()) + 1
            return f"{full[5]}-{month:02}-{day:02}"
    if kind in ("day", "thing", "category"):
        return said
    figures = re.findall(rf"{_WORD}|\d[\d,]*(?:\.\d+)?", said)
    if kind == "number":
        return _number(said) if figures == [said] else said
    numbers = [_number(figure) for figure in figures]
    if "cent" in said or len(numbers) == 2:
        numbers[-1] /= 100
    return -sum(numbers) if said.startswith("-") else sum(numbers)


def _number(figure: str) -> Decimal:
    """`Decimal` of "1,204.5", "twelve" or "ninety-nine"."""
    if figure[0].isdigit():
        return Decimal(figure.replace(",", ""))
    return Decimal(NUMBERS[figure.replace(" ", "-")])


# --- what may be rewritten, and whether it still says the same ----------------------------------------------------

_LINE = re.compile(r'\[[^\]]+\] (User|Assistant) said, "(.*)"')

_NO = "not no never none nothing nor neither without cannot unable sorry instead"
_UNSURE = (  # a purchase that gains one of these may no longer be one, or be another one, or be counted twice
    "almost nearly hardly barely if unless would could should might may maybe perhaps probably possibly likely will "
    "shall going gonna plan plans planned planning intend intended want wants wanted wish hope hoped hoping need needs "
    "consider considering think thinking thought imagine suppose supposed expect soon future upcoming until guess "
    "wonder know said say read hear heard ask asks asked offered quoted normal costs pay pays paying spend spends "
    "spending buy buys buying used usually often always since ago recently earlier "
    "about around approximately roughly over under less more half each every per monthly weekly "
    "refund refunded return returned back cancel cancelled canceled owe owed lend lent borrow borrowed free discount "
    "saving budget again another both twice double extra additional "
    "he she him her his hers someone somebody everyone people friend friends sister brother mother father parents "
    "neighbour neighbor colleague we us our given received receive earned won sold"
)
_DONE = re.compile(  # the user paid, or wants it noted; "$" stands for any amount; "they gave me $" is neither
    r"\b(?:i|my|me)\b[^.!?]*\b(?:paid|paying|had to|spent|bought|purchased|shelled|forked|lighter)\b"
    r"|\bi (?:\w+ )?(?:gave|handed)\b|\bcost me\b|\bset me back\b|\bcharged? (?:me|my)\b|\bmy \w+ was charged\b"
    r"|\b(?:was|were|came to|went on|went for)(?: \w+){0,2} \$|\$ went\b|\breceipt\b"
    r"|\b(?:record|note|add|put|write|log|enter)\b"
)
_PAYMENT = (
    "pay pays paid paying payment spend spends spent spending buy buys bought buying purchase purchases purchased cost "
    "costs charge charged price prices bill bills cash money dollar dollars expense expenses budget refund refunded "
    "cancel cancelled canceled owe owed"
)
_MAY_NOT_GAIN = {
    kind: re.compile(rf"\b(?:{_any(words.split())}|(?:was|were|got|been) paid)\b")
    for kind, words in (("purchase", f"{_NO} {_UNSURE}"), ("answer", f"{_NO} {_PAYMENT}"), ("talk", _PAYMENT))
}
_POLITE = re.compile(r"\b(?:can|could|would|will) you\b|\bi(?:'d| would) like (?:you )?to\b|\bset me back\b")
_SPEAKER = re.compile(r"\b(?:i|me|my|mine|myself|please|(?:can|could|would|will) you)\b")  # tells, or asks to note it
_OTHER = re.compile(r"\b(?:you|your|yours|yourself)\b")


@dataclass(frozen=True, slots=True)
class Utterance:
    """What one turn says. ``kind``: one of `ASKED`, else why it stays as it is."""

    speaker: str
    text: str
    kind: str


def utterances(session: Session) -> list[Utterance]:
    """The turns of a session, each with what may be done to it; see the module's docstring for the rule.

    >>> from uma_lib.ledger import Stream
    >>> [(u.kind, u.text) for u in utterances(Stream("small", "test", 6, 0).session(2))][1:3]
    [('answer', 'Okay, recorded.'), ('unpaid amount', 'I might spend $5 on electronics next week.')]
    """
    lines = [_LINE.fullmatch(line) for line in session.text.split("\n")]
    speakers = ["Assistant" if n % 2 else "User" for n in range(len(lines))]
    for n, (line, speaker) in enumerate(zip(lines, speakers, strict=True)):
        if not line or line[1] != speaker:
            raise RunError(f'session {session.index}, turn {n}: write it as [date] {speaker} said, "..."')
    texts = [line[2] for line in lines]
    # a word like "today" alone does not make a line one about money
    told = [any(fact.kind in ("amount", "category", "thing") for fact in found(text)) for text in texts]
    kinds = []
    for n in range(0, len(lines), 2):
        events = {event.kind for event in session.events if event.turn == n}
        if any(expense.turn == n for expense in session.mentioned):
            kinds += ["unpaid amount"] * 2
        elif events == {"purchase"}:
            paid = any(fact.kind == "amount" for fact in found(texts[n]))  # else the assistant asks how much
            kinds += ["purchase" if paid else "request", "follow-up" if any(told[n + 1 : n + 2]) else "answer"]
        elif events:
            kinds += ["revision"] * 2
        else:  # a fact here was said before, or answers what the assistant has asked
            kinds += ["follow-up" if any(told[max(0, n - 1) : n + 2]) else "talk"] * 2
    return [Utterance(*parts) for parts in zip(speakers, texts, kinds, strict=False)]


def refusal(old: Utterance, new: str) -> str | None:
    """Why ``new`` must not take the place of ``old``; None if it may.

    >>> said = Utterance("User", "Also, I spent $12.50 on a taxi.", "purchase")
    >>> refusal(said, "I took a taxi and it was twelve fifty.")
    >>> refusal(said, "I took a taxi and it was $12."), refusal(said, "I nearly spent $12.50 on a taxi.")
    ('lost amount', 'meaning')
    """
    if not new:
        return "empty"
    if not new.isprintable() or re.search(r'["\[\]{}<>|*\ufffd]|\b(?:User|Assistant):', new):
        return "shape"  # several lines, a list, a label, broken characters, talk about the task
    if len(new) > 2 * len(old.text) + 80:
        return "too long"
    if new == old.text:
        return "unchanged"
    if new == _EXAMPLES[old.kind][1]:
        return "copied"  # from the prompt
    before, after = found(old.text), found(new)
    for kind in ("amount", "day", "category", "thing"):
        had, has = ([fact.value for fact in facts if fact.kind == kind] for facts in (before, after))
        if set(had) - set(has):
            return f"lost {kind}"
        if set(has) - set(had):
            return f"new {kind}"
        if old.kind == "purchase" and (len(had) > 1 or kind == "amount") and had != has:
            return "order"  # of several purchases, each must keep its amount; one must not be told twice
    if {fact.value for fact in after if fact.kind == "number"} - {f.value for f in before if f.kind == "number"}:
        return "new amount"
    had, has = (_words_of(text, _MAY_NOT_GAIN[old.kind]) for text in (old.text, new))
    if has[0] - had[0] or has[1] - had[1]:
        return "meaning"
    had, has = old.text.lower(), new.lower()
    if ("?" in had) != ("?" in has) and not ("?" in has and old.speaker == "User" and _POLITE.search(has)):
        return "question"
    if old.speaker == "User":
        spoke = _SPEAKER.search(has) or old.kind == "talk" and not _SPEAKER.search(had)
        you = [bool(_OTHER.search(_POLITE.sub(" ", text))) for text in (had, has)]
        if not spoke or you[0] != you[1]:
            return "speaker"  # the model has answered the user instead
    told = _FACT.sub(lambda m: "$" if m.lastgroup == "amount" else m[0], new).lower()
    return "no payment" if old.kind == "purchase" and not _DONE.search(told) else None


def _words_of(text: str, words: re.Pattern) -> tuple[set[str], set[str]]:
    """Which of ``words`` stand in ``text``, and which of them in sentences with a fact.

    "I paid $5. No regrets." denies nothing. A colon ends a sentence as well, so that "I almost forgot: I paid $5" lends
    its "almost" to no purchase.
    """
    text = _POLITE.sub(" ", _FACT.sub("#", text).lower().replace("’", "'"))
    text = text.replace("n't", " not").replace("'ll", " will").replace("'d", " would")
    factual = [part for part in re.split(r"(?<=[.!?:;])\s+", text) if "#" in part]
    return set(words.findall(text)), set(words.findall("\n".join(factual)))


# --- prompts ------------------------------------------------------------------------------------------------------

_SYSTEM = (
    "You rewrite single lines of a chat between a user and an assistant who keeps the user's expenses. "
    "Reply with the new line only: no quotation marks, no explanation, no answer to it."
)
_MANNERS = (
    "briefly", "in a relaxed tone", "in plain words", "in a friendly tone", "as in a chat message", "politely",
    "in another word order", "a little more talkatively",
)  # fmt: skip
_EXAMPLES = {  # shown before the line: what is meant by rewriting it, and not answering it
    "purchase": ("I spent $31.40 on a concert.", "I went to a concert and paid $31.40.", "$31.40, concert"),
    "answer": ("Noted.", "I have put that down.", ""),
    "talk": ("There was a long line at the door.", "I saw that many were waiting at the door.", ""),
}


def request(utterance: Utterance, config: RewriteConfig, seed: int) -> dict:
    """What is posted for one utterance."""
    shown, better, keep = _EXAMPLES[utterance.kind]
    shown_by = "Assistant" if utterance.kind == "answer" else "User"
    wanted = dict.fromkeys(fact.words for fact in found(utterance.text) if fact.kind != "number")
    manner = _MANNERS[seed % config.variants % len(_MANNERS)]

    def ask(speaker: str, text: str, keep: str) -> str:
        kept = f"\nKeep these words: {keep}" if keep else ""
        return f"Say it {manner}, with other words and the same meaning.{kept}\n{speaker}: {text}"

    messages = [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": ask(shown_by, shown, keep)},
        {"role": "assistant", "content": better},
        {"role": "user", "content": ask(utterance.speaker, utterance.text, ", ".join(wanted))},
    ]
    settings = {"temperature": config.temperature, "max_tokens": config.max_tokens, "seed": seed}
    return {"model": config.model, "messages": messages, **settings}


def _line(reply: str) -> str:
    """The line in a reply: without thoughts, a speaker's name and quotation marks around it."""
    text = re.sub(r"\A(?:User|Assistant): ?", "", split_thought(reply)[1].strip())
    for left, right in ('""', "“”", "''"):
        if len(text) > 1 and text[0] == left and text[-1] == right:
            text = text[1:-1].strip()
    return text


# --- rewriting ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Report:
    """What has been done so far; complete when the sessions are used up."""

    sessions: int = 0
    utterances: int = 0
    asked: int = 0  # utterances for which new words were wanted
    rewritten: int = 0
    requests: int = 0  # answered by the server; the other answers were in the cache, or came for an equal utterance
    untouched: Counter = field(default_factory=Counter)  # by rule: never asked for
    refused: Counter = field(default_factory=Counter)  # by reason: asked for, and no answer could be taken
    before: set = field(default_factory=set, repr=False)  # three words in a row, of all utterances; see `_trigrams`
    after: set = field(default_factory=set, repr=False)

    def __str__(self) -> str:
        lists = (c.most_common() for c in (self.refused, self.untouched))
        refused, untouched = (", ".join(f"{n} {why}" for why, n in counts) or "none" for counts in lists)
        return (
            f"{self.sessions} sessions, {self.utterances} utterances: {self.asked} asked for ({self.requests} requests "
            f"to the server), {self.rewritten} rewritten\nrefused: {refused}\nleft as they are: {untouched}\n"
            f"different 3-grams: {len(self.before)} before, {len(self.after)} after"
        )


def _trigrams(text: str) -> Iterator[tuple[str, str, str]]:
    """Three words in a row; all figures are the same word."""
    words = re.findall(r"[\w']+|#", re.sub(r"\d[\d,.]*\d|\d", "#", text.lower()))
    return zip(words, words[1:], words[2:], strict=False)


def rewrite(sessions: Iterable[Session], config: RewriteConfig, cache: Path) -> tuple[Iterator[Session], Report]:
    """The sessions (of one stream or of several) in their order, with new words where a server found some.

    Every answer is written to the folder ``cache`` at once, so a killed run goes on without asking again, and gives the
    same text. Sessions are read a few ahead of what is taken. The report fills up while the iterator is used.

    Raises `RunError` (one line with the address, never with a key) where the server cannot be used, or not within
    ``config.patience``.

    >>> config = RewriteConfig("http://localhost:8000/v1", "qwen3-4b", key_variable="MY_KEY")
    >>> sessions, report = rewrite(Stream("standard", "train", 10, 0), config, Path("cache"))  # doctest: +SKIP
    >>> texts = [session.text for session in sessions]; print(report)  # doctest: +SKIP
    """
    server, report = Server(config.base_url, cache, config.key_variable, config.timeout, config.patience), Report()
    return _rewrite(sessions, config, server, report), report


def _rewrite(sessions: Iterable[Session], config: RewriteConfig, server: Server, report: Report) -> Iterator[Session]:
    pool = ThreadPoolExecutor(config.parallel)
    running: dict[tuple[Utterance, int], Future] = {}  # the same line with the same seed is asked for once
    ahead: deque[tuple[Session, list]] = deque()

    def start(session: Session, turn: int, utterance: Utterance) -> tuple[Utterance, tuple | None, Future | None]:
        if utterance.kind not in config.kinds:
            return utterance, None, None
        place = hashlib.sha256(f"{session.index}/{turn}/{utterance.text}".encode()).digest()
        job = utterance, int.from_bytes(place[:4], "big") % config.variants
        if job not in running:
            running[job] = pool.submit(_new_words, *job, config, server)
        return utterance, job, running[job]

    def finish(session: Session, turns: list[tuple]) -> Session:
        lines = session.text.split("\n")
        for turn, (utterance, job, future) in enumerate(turns):
            text = utterance.text
            if future is None:
                report.untouched[utterance.kind] += 1
            else:
                report.asked += 1
                words, why = future.result()
                running.pop(job, None)  # it is in the cache now
                if why:
                    report.refused[why] += 1
                else:
                    report.rewritten, text = report.rewritten + 1, words
            report.before.update(_trigrams(utterance.text))
            report.after.update(_trigrams(text))
            lines[turn] = f'{lines[turn].partition(chr(34))[0]}"{text}"'
        report.sessions, report.utterances = report.sessions + 1, report.utterances + len(turns)
        report.requests = server.requests
        return replace(session, text="\n".join(lines))

    try:
        for session in sessions:
            ahead.append((session, [start(session, turn, said) for turn, said in enumerate(utterances(session))]))
            if len(ahead) > config.parallel:
                yield finish(*ahead.popleft())
        while ahead:
            yield finish(*ahead.popleft())
    finally:
        server.stop()
        pool.shutdown(cancel_futures=True)  # answers under way are waited for and kept
        server.close()


def _new_words(utterance: Utterance, variant: int, config: RewriteConfig, server: Server) -> tuple[str, str | None]:
    """The first of ``config.tries`` answers that passes the checks; else the last, and why it was refused."""
    for n in range(config.tries):
        reply = server.ask(request(utterance, config, seed=variant + n * config.variants))
        text = _line(reply.text)
        why = "cut off" if reply.cut else refusal(utterance, text)
        if why is None:
            break
    return text, why
