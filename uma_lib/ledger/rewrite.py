"""Dialogues in other words: any OpenAI-compatible server rewrites utterances, and every answer is checked.

The templates of `language` make every fact right by construction and repeat themselves. A chat model speaks more
freely, and gets facts wrong; so it is asked for words only, and what it says is taken only if all facts are still
there. The ground truth (expenses, events, turns, questions) is never touched.

    [2024-05-01] User said, "Also, I spent $12.50 on a taxi."
    [2024-05-01] User said, "I took a taxi and it was $12.50."      # the same, rewritten

One utterance at a time. A model that is asked for a whole dialogue has to copy a dozen amounts and keep turns apart,
and one slip throws everything away: with nine lines in ten right, a dialogue of 20 would survive one time in eight. A
single line, with the words to keep named beside it, costs one line when it fails, keeps the shape, the number and the
order of turns by construction, and can be cached: the same line comes back in many dialogues.

No check can prove that a line still means the same. So the rule is conservative:

- asked for: what the user says where purchases are told, the assistant's answer to it if it names no fact, small talk;
- never touched: amounts that were not paid (plans, prices, other people), revisions and late entries, and whatever
  refers to a purchase afterwards ("that $9 for coffee, did you get it?", "No, Dining.", "It was $4.57.");
- every amount, day, category and thing that was said is still said, and none is new (see `found`); a purchase gains no
  word that could undo it ("not", "nearly", "might", "twice", "she") and keeps one of payment, small talk gains none;
  questions stay questions, and the user stays the speaker.

What fails stays as it was and is counted by reason. Not checked: grammar, taste, and whether small talk keeps its
topic; read some lines before you use them. This module knows nothing of agents, and imports no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import os
import re
import threading
import unicodedata
import urllib.error
import urllib.request
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from uma_lib.ledger.language import CATEGORIES, TAXONOMY
from uma_lib.ledger.streams import Session
from uma_lib.runs import RunError, atomic_write_json, read_json

ASKED = ("purchase", "answer", "talk")  # kinds of utterances that may be rewritten, see `utterances`
LONGEST_BODY = 1_000_000  # bytes that are read of any answer
LONGEST_WAIT = 60.0  # seconds between two attempts, whatever the server asks for


@dataclass(frozen=True, slots=True)
class RewriteConfig:
    """Which server, and how it is asked.

    >>> RewriteConfig("http://localhost:8000/v1", "qwen3-4b").url
    'http://localhost:8000/v1/chat/completions'
    """

    base_url: str  # up to and with /v1
    model: str  # its name at the server
    key_variable: str | None = None  # environment variable that holds the API key, if the server wants one
    kinds: tuple[str, ...] = ASKED  # of utterances; weak models talk nonsense where no fact holds them
    variants: int = 8  # most different wordings of one utterance; more cost more requests
    tries: int = 2  # answers asked for until one passes the checks
    temperature: float = 0.8
    max_tokens: int = 120  # of one answer; models that think first need several hundred
    parallel: int = 4  # requests at a time
    timeout: float = 120.0  # seconds without a sign of the server
    attempts: int = 5  # at a request that fails for a passing reason
    wait: float = 1.0  # seconds before the second attempt; doubled for each further one

    def __post_init__(self) -> None:
        # no message quotes the URL before it is known to hold no password
        if "@" in self.base_url:
            raise ValueError("base_url holds credentials; name the variable that holds the key in key_variable")
        if re.search("[?#]", self.base_url):
            raise ValueError("base_url goes on after the path; leave out everything from the first ? or # on")
        if not re.fullmatch(r"https?://([\w.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?(/[!-~]*)?", self.base_url):
            raise ValueError(f"base_url is {self.base_url!r}; write it like http://localhost:8000/v1")
        if not self.kinds or set(self.kinds) - set(ASKED):
            raise ValueError(f"kinds is {list(self.kinds)}; name some of {', '.join(ASKED)}")
        for name in ("variants", "tries", "max_tokens", "parallel", "attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if min(self.temperature, self.wait) < 0 or self.timeout <= 0:
            raise ValueError("temperature and wait must not be negative, and timeout must be above 0")

    @property
    def url(self) -> str:
        return f"{self.base_url.rstrip('/')}/chat/completions"


# --- facts in a text ----------------------------------------------------------------------------------------------

_ONES = "one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_VALUES = {word: n for n, word in enumerate(_ONES + _TEENS, start=1)} | {w: 10 * n for n, w in enumerate(_TENS, 2)}
_MONTHS = "January February March April May June July August September October November December".split()


def _any(words: Iterable[str]) -> str:
    """A pattern for one of ``words``, the longest that fits."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_TWO_DIGITS = rf"(?:(?:{_any(_TENS)})(?:[ -](?:{_any(_ONES)}))?|{_any(_TEENS)})"  # ten to ninety-nine
_WORD = rf"\b(?:{_TWO_DIGITS}|{_any(_ONES)})\b"  # as `language.spoken` says it
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_START, _END = r"(?<![\w.,$-])(?<!\$ )", r"(?![\w%]|[.,]\d)"  # no part of "1.5k", "-2", "1,50" or "C$2"
_FIGURE = rf"{_START}{_DIGITS}(?:\.\d+)?{_END}"
_DOLLARS = r"(?:US )?(?:dollars?|bucks?|USD)\b"
_MONTH = rf"(?-i:{_any(_MONTHS)})"  # "may" is no month
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
    if kind in ("thing", "category"):
        return said
    if kind == "day":
        said = re.sub(_WORD, lambda m: str(_number(m[0])), said)
        if full := re.fullmatch(r"(?:(\d+)\w* (?:of )?([a-z]+)|([a-z]+) (\d+)\w*),? (\d{4})", said):
            day, month = int(full[1] or full[4]), _MONTHS.index((full[2] or full[3]).capitalize()) + 1
            return f"{full[5]}-{month:02}-{day:02}"
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
    return Decimal(sum(_VALUES[word] for word in re.split("[ -]", figure)))


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
            pair = ["unpaid amount"] * 2
        elif events == {"purchase"}:
            pair = ["purchase", "follow-up" if any(told[n + 1 : n + 2]) else "answer"]
        elif events:
            pair = ["revision"] * 2
        elif any(told[max(0, n - 1) : n + 2]):  # said again, or an answer to what the assistant asked
            pair = ["follow-up"] * 2
        else:
            pair = ["talk"] * 2
        kinds += pair
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
    if not new.isprintable() or re.search(r'["\[\]{}<>|*]|\b(?:User|Assistant):', new):
        return "shape"  # several lines, a list, a label, talk about the task
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
    by_user = old.speaker == "User"
    if ("?" in had) != ("?" in has) and not ("?" in has and by_user and _POLITE.search(has)):
        return "question"
    if by_user:
        spoke = _SPEAKER.search(has) or old.kind == "talk" and not _SPEAKER.search(had)
        you = [bool(_OTHER.search(_POLITE.sub(" ", text))) for text in (had, has)]
        if not spoke or you[0] != you[1]:
            return "speaker"  # the model has answered the user instead
    if old.kind == "purchase" and any(fact.kind == "amount" for fact in before):
        if not _DONE.search(_FACT.sub(lambda m: "$" if m.lastgroup == "amount" else m[0], new).lower()):
            return "no payment"
    return None


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
    """What is posted for one utterance. The hash of all of it is the key of the cache."""
    shown, better, keep = _EXAMPLES[utterance.kind]
    wanted = dict.fromkeys(fact.words for fact in found(utterance.text) if fact.kind != "number")
    manner = _MANNERS[seed % config.variants % len(_MANNERS)]

    def ask(speaker: str, text: str, keep: str) -> str:
        kept = f"\nKeep these words: {keep}" if keep else ""
        return f"Say it {manner}, with other words and the same meaning.{kept}\n{speaker}: {text}"

    speaker = "Assistant" if utterance.kind == "answer" else "User"
    return {
        "model": config.model,
        "messages": [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": ask(speaker, shown, keep)},
            {"role": "assistant", "content": better},
            {"role": "user", "content": ask(utterance.speaker, utterance.text, ", ".join(wanted))},
        ],
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "seed": seed,
    }


def _line(reply: str) -> str:
    """The line in a reply: without thoughts, a speaker's name and quotation marks around it."""
    text = re.sub(r"\A\s*<think>.*?</think>", "", reply, flags=re.DOTALL).strip()
    text = re.sub(r"\A(?:User|Assistant): ?", "", text)
    for left, right in ('""', "“”", "''"):
        if len(text) > 1 and text[0] == left and text[-1] == right:
            text = text[1:-1].strip()
    return text


# --- the server ---------------------------------------------------------------------------------------------------


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would turn the POST into a GET and take the key to another host."""

    def redirect_request(self, *_) -> None:
        return None


class _Transient(Exception):
    """A failure that may be gone at the next attempt: what happened, what to change, seconds to wait if known."""


class _Server:
    """One address, asked from several threads. The key stands in no message and in no answer that is handed on."""

    def __init__(self, config: RewriteConfig):
        self.config = config
        self.stop = threading.Event()  # set when nobody waits for answers any more, or one request has failed for good
        self._failed = RunError("stopped")
        self._open = urllib.request.build_opener(_NoRedirect).open
        self._key = ""
        if config.key_variable:
            # no message quotes the name: somebody will put the key itself there
            self._key = os.environ.get(config.key_variable, "").strip()
            if not self._key:
                raise RunError("key_variable names an environment variable that is empty; put the API key into it")
            if re.search(r"[^!-~]", self._key):  # http.client would quote the whole header in its error
                raise RunError("the environment variable named by key_variable holds no API key but several words")

    def ask(self, body: dict) -> tuple[str, str]:
        """The text of the answer and why it ended; `RunError` when all attempts have failed."""
        if self.stop.is_set():
            raise self._failed
        wait = self.config.wait
        for attempt in range(1, self.config.attempts + 1):
            try:
                return self._ask(body)
            except _Transient as error:
                what, change, asked_wait = error.args
                pause = min(max(wait, asked_wait), LONGEST_WAIT)
                if attempt < self.config.attempts and self.stop.wait(pause):
                    raise self._failed from None
                if attempt == self.config.attempts:
                    raise self._error(f"{what} (attempt {attempt})", change) from None
                wait *= 2
        raise AssertionError("attempts is at least 1")

    def _ask(self, body: dict) -> tuple[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        posted = urllib.request.Request(self.config.url, json.dumps(body).encode("utf-8"), headers)
        try:
            with self._open(posted, timeout=self.config.timeout) as response:
                data = response.read(LONGEST_BODY + 1)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error)
        except TimeoutError:
            raise self._timeout() from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise self._timeout() from None
            raise _Transient(f"cannot be reached: {error.reason}", "start the server or correct base_url", 0) from None
        except (OSError, http.client.HTTPException) as error:
            what = f"broke off: {str(error) or type(error).__name__}"
            raise _Transient(what, "look at the server's log", 0) from None
        return self._read(data)

    def _read(self, data: bytes) -> tuple[str, str]:
        change = "base_url must lead to an OpenAI-compatible server"
        if len(data) > LONGEST_BODY:
            raise _Transient(f"sent more than {LONGEST_BODY} bytes", change, 0)
        try:
            choice = json.loads(data)["choices"][0]
            text, ended = choice["message"].get("content"), choice.get("finish_reason")
        except (ValueError, LookupError, TypeError, AttributeError):
            raise _Transient(f"sent no chat completion but {self._excerpt(data)}", change, 0) from None
        if not isinstance(text, str | None):
            raise _Transient(f"sent no text but {self._excerpt(data)}", change, 0)
        return self._hide(text or ""), str(ended)

    def _refused(self, error: urllib.error.HTTPError) -> None:
        code = error.code
        try:
            said = self._excerpt(error.read(LONGEST_BODY))
        except (OSError, http.client.HTTPException):
            said = "nothing more"
        what = f"HTTP {code}, {said}"
        if code in (408, 425, 429) or code >= 500:
            change = "lower parallel, or run again later" if code == 429 else "look at the server's log"
            after = error.headers.get("Retry-After", "")
            raise _Transient(what, change, float(after) if after.isdecimal() else 0)
        changes = {
            401: "put a valid API key into an environment variable and its name into key_variable",
            404: "check base_url (most end in /v1) and model",
        }
        changes[403] = changes[401]
        redirected = "write the final address as base_url" if code < 400 else "check the model and the other settings"
        raise self._error(what, changes.get(code, redirected))

    def _timeout(self) -> _Transient:
        return _Transient(f"no answer in {self.config.timeout:g} s", "raise timeout or lower parallel", 0)

    def _error(self, what: str, change: str) -> RunError:
        """The end of the run: the other threads stop as well, and whoever is read first says the same."""
        what = " ".join(self._hide(what).split())
        self._failed = RunError(f"{self.config.url}: {what}; {change}. Answers so far are kept: run again to go on")
        self.stop.set()
        return self._failed

    def _excerpt(self, data: bytes) -> str:
        text = " ".join(self._hide(data.decode("utf-8", "replace")).split())
        return repr(text[:200]) if text else "nothing"

    def _hide(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


# --- the cache ----------------------------------------------------------------------------------------------------


def _cached(path: Path, body: dict) -> tuple[str, str] | None:
    """The answer kept at ``path``; None where there is none. A damaged entry is as good as none: it is asked again."""
    try:
        entry = read_json(path)
    except RunError:
        return None
    if not isinstance(entry, dict) or entry.get("request") != body:
        return None
    text, ended = entry.get("reply"), entry.get("finish_reason")
    return (text, ended) if isinstance(text, str) and isinstance(ended, str) else None


def _path(cache: Path, body: dict) -> Path:
    """256 folders, so that a million answers are about 4,000 files each. The address is not part of the key."""
    key = hashlib.sha256(json.dumps(body, sort_keys=True).encode("utf-8")).hexdigest()
    return cache / key[:2] / f"{key}.json"


# --- rewriting ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Report:
    """What has been done so far; complete when the sessions are used up."""

    sessions: int = 0
    utterances: int = 0
    asked: int = 0  # utterances for which new words were wanted
    rewritten: int = 0
    requests: int = 0  # answered by the server
    cache_hits: int = 0  # requests answered without it
    untouched: Counter = field(default_factory=Counter)  # by rule: never asked for
    refused: Counter = field(default_factory=Counter)  # by reason: asked for, and no answer could be taken
    _grams: dict = field(default_factory=lambda: {(n, side): set() for n in (1, 2, 3) for side in (0, 1)}, repr=False)
    _lines: tuple = field(default_factory=lambda: (set(), set()), repr=False)

    def variety(self) -> dict[str, list[int]]:
        """Different lines and n-grams of all utterances, before and after; all figures count as one word."""
        distinct = {"lines": [len(side) for side in self._lines]}
        return distinct | {f"{n}-grams": [len(self._grams[n, side]) for side in (0, 1)] for n in (1, 2, 3)}

    def as_dict(self) -> dict:
        """Plain values, for `results.json`."""
        skipped = ("_grams", "_lines", "untouched", "refused")
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in skipped}
        counts = {"untouched": dict(self.untouched.most_common()), "refused": dict(self.refused.most_common())}
        return plain | counts | {"variety": self.variety()}

    def __str__(self) -> str:
        lists = {"refused": self.refused, "untouched": self.untouched}
        return "\n".join(
            [
                f"{self.sessions} sessions, {self.utterances} utterances: {self.asked} asked for, "
                f"{self.rewritten} rewritten ({self.requests} requests, {self.cache_hits} from the cache)",
                *(f"{name}: " + ", ".join(f"{n} {why}" for why, n in c.most_common()) for name, c in lists.items()),
                "variety: " + ", ".join(f"{name} {a} -> {b}" for name, (a, b) in self.variety().items()),
            ]
        )

    def _count(self, side: int, text: str) -> None:
        words = re.findall(r"[\w']+|#", re.sub(r"\d[\d,.]*\d|\d", "#", text.lower()))
        self._lines[side].add(" ".join(words))
        for n in (1, 2, 3):
            self._grams[n, side].update(zip(*(words[k:] for k in range(n)), strict=False))


@dataclass(frozen=True, slots=True)
class _Outcome:
    text: str | None  # None: the old text stays
    why: str | None
    requests: int
    hits: int


def rewrite(sessions: Iterable[Session], config: RewriteConfig, cache: Path) -> tuple[Iterator[Session], Report]:
    """The sessions (a stream, or some of one) in their order, with new words where a server found some.

    Every answer is written to the folder ``cache`` at once, so a killed run goes on without asking again, and gives the
    same text. Sessions are read a few ahead of what is taken. The report fills up while the iterator is used.

    Raises `RunError` (one line with the address, never with the key) where the server cannot be used.

    >>> config = RewriteConfig("http://localhost:8000/v1", "qwen3-4b", key_variable="MY_KEY")
    >>> sessions, report = rewrite(Stream("standard", "train", 10, 0), config, Path("cache"))  # doctest: +SKIP
    >>> texts = [session.text for session in sessions]; print(report)  # doctest: +SKIP
    """
    report = Report()
    return _rewrite(sessions, config, Path(cache), _Server(config), report), report


def _rewrite(
    sessions: Iterable[Session], config: RewriteConfig, cache: Path, server: _Server, report: Report
) -> Iterator[Session]:
    running: dict[tuple[Utterance, int], Future] = {}  # the same line with the same seed is asked for once
    ahead: deque[tuple[Session, list]] = deque()
    pool = ThreadPoolExecutor(config.parallel)

    def start(session: Session, turn: int, utterance: Utterance) -> tuple:
        if utterance.kind not in config.kinds:
            return utterance, None, None, False
        place = hashlib.sha256(f"{session.index}/{turn}/{utterance.text}".encode()).digest()
        job = utterance, int.from_bytes(place[:4], "big") % config.variants
        shared = job in running
        if not shared:
            running[job] = pool.submit(_new_words, *job, config, cache, server)
        return utterance, job, running[job], shared

    def finish(session: Session, turns: list[tuple]) -> Session:
        lines = session.text.split("\n")
        report.sessions += 1
        for turn, (utterance, job, future, shared) in enumerate(turns):
            text, report.utterances = utterance.text, report.utterances + 1
            if future is None:
                report.untouched[utterance.kind] += 1
            else:
                outcome = future.result()
                running.pop(job, None)  # it is in the cache now
                report.asked += 1
                report.requests += 0 if shared else outcome.requests
                report.cache_hits += outcome.hits + (outcome.requests if shared else 0)
                if outcome.text is None:
                    report.refused[outcome.why] += 1
                else:
                    report.rewritten, text = report.rewritten + 1, outcome.text
            report._count(0, utterance.text)
            report._count(1, text)
            lines[turn] = f'{lines[turn].partition(chr(34))[0]}"{text}"'
        return dataclasses.replace(session, text="\n".join(lines))

    try:
        for session in sessions:
            said = utterances(session)
            ahead.append((session, [start(session, turn, utterance) for turn, utterance in enumerate(said)]))
            if len(ahead) > config.parallel:
                yield finish(*ahead.popleft())
        while ahead:
            yield finish(*ahead.popleft())
    finally:
        server.stop.set()
        pool.shutdown(cancel_futures=True)  # answers under way are waited for and kept


def _new_words(utterance: Utterance, variant: int, config: RewriteConfig, cache: Path, server: _Server) -> _Outcome:
    """Ask until an answer passes, at most ``config.tries`` times."""
    why, requests, hits = None, 0, 0
    for n in range(config.tries):
        body = request(utterance, config, seed=variant + n * config.variants)
        path = _path(cache, body)
        answer = _cached(path, body)
        if answer is None:
            answer = server.ask(body)
            atomic_write_json(path, {"request": body, "reply": answer[0], "finish_reason": answer[1]})
            requests += 1
        else:
            hits += 1
        text, ended = answer
        text = _line(text)
        why = "too long" if ended == "length" else refusal(utterance, text)
        if why is None:
            return _Outcome(text, None, requests, hits)
    return _Outcome(None, why, requests, hits)
