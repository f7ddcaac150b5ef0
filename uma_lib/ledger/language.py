"""Words: the taxonomy of purchases, and everything that people say in a Ledger-QA dialogue.

Two ways of speaking. ``small`` is short and regular, for a policy of two million parameters. ``rich`` (sizes standard
and hard) puts statements together from an opening, a statement and a remark, says amounts and days in several ways,
and lets the assistant ask back. Functions return turns: what the user and the assistant say, alternating, the user
first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

# category -> {scene: how one says it after "on" or "for"}
TAXONOMY: dict[str, dict[str, str]] = {
    "Dining": {
        "fast food": "fast food", "restaurant": "a restaurant meal", "coffee": "coffee", "bubble tea": "bubble tea",
        "BBQ": "a BBQ", "hot pot": "hot pot", "snacks": "snacks", "takeout": "takeout",
    },
    "Transportation": {
        "subway": "the subway", "bus": "the bus", "taxi": "a taxi", "gas": "gas for the car", "parking": "parking",
        "train": "a train ticket", "flight": "a flight",
    },
    "Shopping": {
        "clothing": "clothing", "electronics": "electronics", "daily necessities": "daily necessities",
        "cosmetics": "cosmetics", "books": "novels", "groceries": "groceries", "furniture": "furniture",
    },
    "Entertainment": {
        "movie": "a movie", "KTV": "KTV", "gaming": "a video game", "gym": "the gym", "travel": "a weekend trip",
        "concert": "a concert", "escape room": "an escape room",
    },
    "Utilities": {
        "water & electricity": "water and electricity",
        "property fee": "the property fee", "phone bill": "the phone bill",
        "internet": "the internet plan", "gas bill": "the gas bill", "rent": "the rent",
    },
    "Medical": {
        "medicine": "medicine", "doctor visit": "a doctor visit", "health checkup": "a health checkup",
        "dental": "dental care", "glasses": "new glasses",
    },
    "Education": {
        "training course": "a training course",
        "books & materials": "course materials", "online course": "an online course",
        "exam registration": "an exam registration", "tuition": "tuition",
    },
    "Other": {
        "transfer": "a transfer to a friend", "red envelope": "a red envelope", "donation": "a donation",
        "pet": "pet food", "beauty & salon": "the hair salon",
    },
}  # fmt: skip
CATEGORIES = tuple(TAXONOMY)
SCENES = tuple((category, scene) for category, scenes in TAXONOMY.items() for scene in scenes)


def phrase(category: str, scene: str) -> str:
    """How one says a scene after "on" or "for": ``a taxi``."""
    return TAXONOMY[category][scene]


def said_scene(scene: str) -> str:
    """`phrase` where the category is not known: scene names are unique."""
    return next(scenes[scene] for scenes in TAXONOMY.values() if scene in scenes)


def money(amount: Decimal) -> str:
    """Plain decimal text, as memories and answers write it: ``12`` or ``12.50``."""
    return f"{amount:f}"


# --- amounts in words ---------------------------------------------------------------------------------------------

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
MONTHS = "January February March April May June July August September October November December".split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


def _below_hundred(n: int) -> str:
    if n < 20:
        return _ONES[n]
    return _TENS[n // 10] + (f"-{_ONES[n % 10]}" if n % 10 else "")


NUMBERS = {_below_hundred(n): n for n in range(1, 100)}  # "one" to "ninety-nine"


def spoken(amount: Decimal, short: bool = False) -> str:
    """A price of 1 to 99 dollars in words; ``short``: as prices are called out, where "five eleven" might be 511, too.

    >>> spoken(Decimal("12.50"), short=True), spoken(Decimal("12.50")), spoken(Decimal("40.00"))
    ('twelve fifty', 'twelve dollars and fifty cents', 'forty dollars')
    """
    dollars, cents = divmod(int(amount * 100), 100)
    if not 1 <= dollars <= 99:
        raise ValueError(f"{amount} is not between 1 and 99 dollars")
    if not cents:
        return f"{_below_hundred(dollars)} dollar" + "s" * (dollars > 1)
    if not short or cents < 10 or dollars < 3:
        unit = "dollar" + "s" * (dollars > 1)
        return f"{_below_hundred(dollars)} {unit} and {_below_hundred(cents)} cent" + "s" * (cents > 1)
    return f"{_below_hundred(dollars)} {_below_hundred(cents)}"


def said_amount(rng: random.Random, amount: Decimal, short: bool = False) -> str:
    """One of the ways to state an amount: ``$12.50``, ``12.50``, ``12.50 dollars``, ``$12`` for 12.00, in words.

    short: whether ``twelve fifty`` is among them, which the other one then has to repeat in digits.
    """
    plain = f"{amount:,f}"
    way = rng.random()
    if way < 0.45:
        return f"${plain}"
    if way < 0.60 and 1 <= amount < 100:
        return spoken(amount, short)
    if way < 0.70:
        return f"{plain} dollars"
    if way < 0.78:
        return f"{plain} USD"
    if way < 0.88:
        return plain  # two decimals say that it is money
    return f"${plain.removesuffix('.00')}"


# --- small --------------------------------------------------------------------------------------------------------

_PAID = (
    "I spent {a} on {x}.", "Paid {a} for {x}.", "Please record {a} for {x}.", "Today I paid {a} for {x}.",
    "I had to pay {a} for {x}.", "Just paid for {x}, it was {a}.", "In the end {x} came to {a}.",
    "Put down {a} for {x}.",
    "For {x} I paid {a} in all.", "Another {a} went on {x}.", "{a} for {x}, please note it.",
    "I gave {a} for {x}.",
)  # fmt: skip
_PAID_TWO = (
    "I spent {a} on {x} and {b} on {y}.", "Paid {a} for {x}, then {b} for {y}.", "{a} went on {x} and {b} on {y}.",
    "Two things today: {x} for {a}, and {y} for {b}.",
)  # fmt: skip
_PLANNED = (
    "I might spend {a} on {x} next week.", "Maybe I will pay {a} for {x} tomorrow.",
    "They wanted {a} for {x}, so I said no.",
    "I am thinking of paying {a} for {x} soon.", "My sister paid {a} for {x}.",
    "I nearly paid {a} for {x}, but I did not.",
)  # fmt: skip
_CONFIRMED = (
    "Noted.",
    "Got it.",
    "Okay, recorded.",
    "Done, I wrote it down.",
    "All right.",
    "Saved.",
    "Okay.",
    "Sure, it is in the book.",
)
_ECHOED = ("Noted, {a}.", "Got it, {a} for {x}.", "Okay, {a}, recorded.")
_HEARD = ("Okay.", "I see.", "All right.", "Let me know what you decide.", "Understood.")
_SMALL_TALK = (
    ("How are you today?", "I am fine, thank you."), ("It is raining again.", "Take an umbrella with you."),
    ("I slept badly.", "I hope tonight is better."), ("The meeting was long.", "I am sorry to hear that."),
    ("What a nice day it was.", "I am glad to hear it."), ("I met an old friend.", "How lovely."),
    ("Work is busy this week.", "Do take a break."), ("I watched the birds for a while.", "That sounds calm."),
    ("My neighbour is moving out.", "Will you miss them?"), ("I should call my parents.", "They would like that."),
)  # fmt: skip
# what changes an earlier entry; {t} is the purchase ("the taxi"), {d} its date, {o} its amount so far
_REVISED = {
    "amount": (
        "I paid {a} for {t} on {d}, not {o}.", "I must correct {t} on {d}, I paid {a}.",
        "Please change the amount for {t} on {d} to {a}.", "I got the amount for {t} on {d} wrong, it was {a}.",
    ),
    "settled": (
        "I corrected {t} on {d} before, but the right amount is {a}.",
        "I told you {o} for {t} on {d}, but the receipt says {a}, so that is what counts.",
    ),
    "scene": ("The {o} on {d} went on {y}, not on {t}.", "The {o} that you have as {t} on {d} was really for {y}."),
    "category": ("Please file {t} on {d} under {c}.", "Please count {t} on {d} as {c} instead."),
    "date": ("I paid for {t} on {e}, not on {d}.", "I gave you the wrong day for {t}, I paid on {e}, not on {d}."),
    "refund": ("Of what I paid for {t} on {d}, I got {a} back.", "They returned {a} of what I paid for {t} on {d}."),
    "full_refund": (
        "I got back all {a} that I paid for {t} on {d}.", "They returned the whole {a} that I paid for {t} on {d}.",
    ),
    "cancel": (
        "Please cancel the entry for {t} on {d}, that payment never went through.",
        "I never paid for {t} on {d}, please strike that out.",
    ),
    "split": (
        "Of what I paid for {t} on {d}, {o} in all, {a} was for {y}.",
        "Please enter {a} of what I paid for {t} on {d} as {y} instead.",
    ),
    "late": ("I forgot: on {d} I paid {a} for {x}.", "Late entry: {a} for {x} on {d}."),
}  # fmt: skip
_CHANGED = (
    "Okay, updated.", "I have updated it.", "All right, it is up to date.", "Thanks, I have adjusted it.",
    "Done, the book is updated.",
)  # fmt: skip

REVISION_FORMS = tuple(form for form in _REVISED if form != "settled")  # "settled" is a second "amount"

Turns = list[str]  # user and assistant, alternating


def small_purchases(rng: random.Random, bought: list[tuple[str, str, Decimal]], echo: float) -> Turns:
    """One or two purchases (category, scene, amount) in one utterance."""
    (category, scene, amount), *more = bought
    words = {"a": f"${money(amount)}", "x": phrase(category, scene)}
    if more:
        category, scene, amount = more[0]
        words |= {"b": f"${money(amount)}", "y": phrase(category, scene)}
        return [rng.choice(_PAID_TWO).format(**words), rng.choice(_CONFIRMED)]
    heard = rng.choice(_ECHOED if rng.random() < echo else _CONFIRMED).format(**words)
    return [rng.choice(_PAID).format(**words), heard]


def small_mention(rng: random.Random, category: str, scene: str, amount: Decimal) -> Turns:
    """An amount that must not be counted."""
    said = rng.choice(_PLANNED).format(a=f"${money(amount)}", x=phrase(category, scene))
    return [said, rng.choice(_HEARD)]


def small_talk(rng: random.Random) -> Turns:
    """Nothing of interest to a ledger."""
    return list(rng.choice(_SMALL_TALK))


def small_revision(rng: random.Random, form: str, words: dict[str, str]) -> Turns:
    """A change of an earlier entry, ``words`` as in `_REVISED`."""
    return [rng.choice(_REVISED[form]).format(**words), rng.choice(_CONFIRMED if form == "late" else _CHANGED)]


def the(thing: str) -> str:
    """The definite form of a phrase.

    >>> the("a taxi"), the("coffee"), the("the rent")
    ('the taxi', 'the coffee', 'the rent')
    """
    article, _, rest = thing.partition(" ")
    return f"the {rest}" if article in ("a", "an", "the") else f"the {thing}"


# --- rich ---------------------------------------------------------------------------------------------------------

_ASIDES = (  # before what is no entry, or none of its own
    "By the way,", "Oh, and", "Also,", "So,", "Right,", "Well,", "Okay,", "Now that we are talking,",
    "While I think of it,",
)  # fmt: skip
_OPENINGS = (
    *_ASIDES, "Before I forget,", "One more thing:", "Let me see:", "Something for the book:", "Here is another one:",
    "For completeness,", "Another thing:", "For the record,", "I almost forgot:", "While we are at it,",
)  # fmt: skip
_GIFTS = ("transfer", "red envelope", "donation")  # have no price, and nobody charges for them
_GIVEN = (
    "I spent {a} on {x}.", "please record {a} for {x}.", "{a} went on {x}.", "please put down {a} for {x}.",
    "add {a} for {x}, please.", "there is {a} to enter for {x}.", "please write down {a} for {x}.",
)  # fmt: skip
_STATEMENTS = (
    *_GIVEN, "I paid {a} for {x}.", "I had to pay {a} for {x}.", "{x} set me back {a}.", "for {x} I paid {a}.",
    "they charged me {a} for {x}.", "I handed over {a} for {x}.", "I just paid {a} for {x}.",
    "I was charged {a} for {x}.", "my card was charged {a} for {x}.", "I spent {a} on {x} today.",
    "{a} is what I paid for {x}.", "my wallet is {a} lighter after paying for {x}.",
    "I have a receipt for {x}, it says {a}.", "I gave them {a} for {x}.", "{x} cost me {a}.",
    "I went and paid for {x}, {a}.", "paying for {x} took {a} out of my pocket.",
)  # fmt: skip
_MORE = (  # of what was bought already in the same session
    "I paid for {x} one more time, {a} for this one.", "there was one more payment for {x}, {a}.",
    "I spent another {a} on {x}.", "please add a second payment for {x}, {a}.",
)  # fmt: skip
_MORE_GIVEN = ("I spent another {a} on {x}.", "please record another {a} for {x}.")
_EARLIER = (
    "{w} I paid {a} for {x}.", "I spent {a} on {x} {w}.", "{w}, {a} went on {x}.", "I paid for {x} {w}, it was {a}.",
    "please add {a} for {x}, that was {w}.", "{w} they charged me {a} for {x}.",
    "I have not told you yet that {w} I paid {a} for {x}.",
)  # fmt: skip
_EARLIER_GIVEN = ("I spent {a} on {x} {w}.", "{w}, {a} went on {x}.", "please add {a} for {x}, that was {w}.")
_DAYS_AGO = {1: ("yesterday",), 2: ("two days ago", "the day before yesterday"), 3: ("three days ago",)}
_REMARKS = (
    "I paid right away.", "It all went smoothly.", "It was worth it.", "That was more than I thought.",
    "Not too bad.", "I had to wait a little.", "I have kept the receipt.", "Prices keep going up.", "I had no choice.",
    "That was cheaper than last time.", "I am glad that is paid.", "They were friendly about it.",
    "That was quickly paid.", "My phone died right after that.", "It was easy enough.", "No regrets.",
)  # fmt: skip
_TWO = (
    "I spent {a} on {x} and {b} on {y}.", "I paid {a} for {x}, then {b} for {y}.", "{a} went on {x} and {b} on {y}.",
    "there are two payments, {a} for {x} and {b} for {y}.", "first I paid {a} for {x}, and later {b} for {y}.",
    "{x} cost me {a}, and {y} another {b}.", "please note {a} for {x} as well as {b} for {y}.",
)  # fmt: skip
_TWO_GIVEN = (
    "I spent {a} on {x} and {b} on {y}.", "{a} went on {x} and {b} on {y}.",
    "there are two payments, {a} for {x} and {b} for {y}.", "please note {a} for {x} as well as {b} for {y}.",
)  # fmt: skip
_TWO_SAME = (
    "I paid for {x} twice, first {a}, then another {b}.", "there were two payments for {x}, one of {a} and one of {b}.",
)  # fmt: skip
_REQUESTS = (
    "can you note {x} for me?", "I would like to log {x}.", "I have {x} to record.", "please add {x} to the list.",
    "we should record {x} from today.", "I have to tell you about {x}.",
)  # fmt: skip
_REQUESTS_EARLIER = (
    "can you note {x} from {w}?", "please add {x} from {w}.", "I still have {x} from {w} to record.",
)  # fmt: skip
_HOW_MUCH = (
    "Of course. How much did you pay?", "Sure, what did it come to?", "How much was that?", "Gladly. And the amount?",
    "What should I write for the amount?", "How much did that cost you?",
)  # fmt: skip
_THAT_MUCH = ("{a}.", "it was {a}.", "that was {a}.", "{a}, I think. Yes, {a}.", "the receipt says {a}.", "I paid {a}.")
_NOTED = (
    "Noted.", "Got it.", "Okay, recorded.", "Done, I wrote it down.", "All right.", "Saved.",
    "Sure, it is in the book.", "Thank you, it is entered.", "Written down.", "I have added it.",
    "Understood, it is on the list.", "Perfect, noted.",
    "Thanks, I have that.", "It is stored.", "Recorded, anything else?", "I put it in.",
)  # fmt: skip
_NOTED_AMOUNT = (
    "Noted, {a}.", "Got it, {a} for {x}.", "Okay, {a}, recorded.", "That is {a} for {x}, saved.",
    "I have entered {a}.", "{a} for {x}, done.", "So {a} for {x}. It is in the book.",
)  # fmt: skip
_WHICH_CATEGORY = (
    "Shall I put that under {c}?", "That goes under {c}, right?", "I will file it under {c}, okay?",
    "Is {c} correct for that?",
)  # fmt: skip
_YES = ("Yes.", "Yes, {c}.", "Yes, {c} is right.", "Yes, {c} is fine.")
_NO = ("No, {c}.", "Not quite, it belongs under {c}.", "No, please use {c}.")
_MENTIONS = {
    "planned": (
        "I am going to pay {a} for {x} next week.", "next month {x} will cost me {a}.",
        "I am still saving up for {x}, which will cost {a}.", "I might spend {a} on {x} soon.",
        "tomorrow I may pay {a} for {x}, we will see.", "I plan to pay {a} for {x} at the weekend.",
    ),
    "hypothetical": (
        "if I had {a} to spare, I would spend it on {x}.", "I wonder whether {a} would be too much for {x}.",
        "I nearly paid {a} for {x}, but I did not.", "I could not imagine paying {a} for {x}.",
        "they wanted {a} for {x}, so I said no.",
    ),
    "other_person": (
        "my sister paid {a} of her own money for {x}.", "a colleague of mine spent {a} on {x}.",
        "my neighbour paid {a} for {x}, not me.", "my parents paid {a} for {x}, out of their own pocket.",
        "a friend told me that he spent {a} on {x}.",
    ),
    "price": (
        "I heard of people who pay {a} for {x}.", "they ask {a} for {x} these days.", "{x} used to cost {a} here.",
        "I read that {a} for {x} is normal.", "I would never pay {a} for {x}.",
    ),
}  # fmt: skip
_PRICED = ("they wanted", "they ask", "cost")  # say what a gift never has, a price
_INDEED = {
    "planned": (
        "Okay.", "I see.", "All right.", "Let me know when you have paid.", "I only count what you have paid.",
        "I will leave that out for now.",
    ),
    "hypothetical": (
        "I see.", "Okay.", "Hm, I see.", "Understood.", "I will leave that out, then.",
        "I only count what you have paid.",
    ),
    "other_person": (
        "I see.", "Interesting.", "Is that so?", "I only count what you have paid.", "I will leave that out, then.",
    ),
    "price": (
        "I see.", "Interesting.", "Is that so?", "Good to know.", "Hm, I see.",
        "That does not go in your book, I think.",
    ),
}  # fmt: skip
_AGAIN = (
    "as I said, I paid {a} for {x}.", "that {a} for {x}, did you note it?",
    "just to be sure, {a} for {x} is in, right?", "do you have the {a} for {x} already?",
)  # fmt: skip
_ONCE = (
    "Yes, I have it, once.", "It is in already.", "Yes, that is noted.", "I have that one already.",
    "Yes, I noted it once.",
)  # fmt: skip
_TALK = (
    (("It has rained all morning.", "The sky is grey again.", "It is so cold today.", "There was fog on the river.",
      "The wind nearly took my umbrella."),
     ("Stay warm.", "I hope it clears up soon.", "A good day to stay inside.", "Take care out there.")),
    (("I slept badly.", "I woke up far too early.", "I am so tired today.", "I could go back to bed.",
      "The neighbours were loud all night."),
     ("I hope tonight is better.", "Maybe rest a little this afternoon.", "That sounds exhausting.", "Poor you.")),
    (("The meeting was long.", "Work is busy this week.", "My boss changed the plan again.", "We finished the project.",
      "I had three calls in a row."),
     ("Do take a break.", "I hear you.", "You have earned some rest.", "That sounds like a full day.")),
    (("I met an old friend.", "My cousin called me.", "My neighbour is moving out.", "I should call my parents.",
      "My sister is coming to visit."),
     ("People matter most.", "I understand.", "I am sure that means a lot.", "Such things stay with one.")),
    (("I watched the birds for a while.", "The park was beautiful.", "The trees are in bloom.",
      "I walked along the river.", "I saw a fox in the garden."),
     ("Nature does one good.", "I would love to see that.", "How lovely.", "I can imagine that.")),
    (("I am reading a long book.", "There is a new series I like.", "I heard a song from my school days.",
      "I tried to draw again.", "I have been practising the guitar."),
     ("Enjoy it.", "That is a good way to relax.", "What do you like about it?", "Good for you.")),
    (("My knee hurts a little.", "I went for a run.", "I did some stretching this morning.",
      "I walked up all the stairs.", "I have a slight cold."),
     ("Look after yourself.", "Take it slowly.", "Drink enough water.", "Do not overdo it.")),
    (("The cat broke a vase.", "The dog slept on my shoes.", "My plants need more light.", "I repaired the lamp.",
      "The kitchen is finally tidy."),
     ("I can picture it.", "Home is never boring.", "There is always something at home.", "That is home life.")),
    (("You are quick today.", "What would I do without you?", "I like talking to you.", "You are a great help.",
      "Thank you for your patience."),
     ("Glad to help.", "I enjoy keeping your book.", "Always at your service.", "That is kind of you.")),
    (("I tried a new soup.", "I burned the rice.", "I cooked for everybody.", "I miss my grandmother's cakes.",
      "We ate late."),
     ("Food is a big topic.", "Tell me more.", "I like to hear about food.", "Meals are half of life.")),
)  # fmt: skip


def said_day(way: float, day: str) -> str:
    """``2024-05-01``, ``May 1, 2024`` or ``1 May 2024``; ``way`` from 0 to 1 says which, one for each utterance."""
    if way < 0.5:
        return day
    when = date.fromisoformat(day)
    month = MONTHS[when.month - 1]
    return f"{month} {when.day}, {when.year}" if way < 0.75 else f"{when.day} {month} {when.year}"


def sentence(text: str) -> str:
    """With a capital letter at its beginning."""
    return text[0].upper() + text[1:]


def _say(
    rng: random.Random, text: str, opening: float = 0.4, remark: float = 0.0, openings: Sequence[str] = _OPENINGS
) -> str:
    if ":" in text:  # one colon is enough
        openings = [words for words in openings if ":" not in words]
    said = f"{rng.choice(openings)} {text}" if rng.random() < opening else sentence(text)
    return f"{said} {rng.choice(_REMARKS)}" if rng.random() < remark else said


def _noted(rng: random.Random, amount: Decimal, thing: str, echo: float) -> str:
    if rng.random() < echo:
        return sentence(rng.choice(_NOTED_AMOUNT).format(a=f"${amount:,f}", x=thing))
    return rng.choice(_NOTED)


def rich_purchase(
    rng: random.Random, category: str, scene: str, amount: Decimal, days_ago: int, more: bool, echo: float, asks: float
) -> Turns:
    """One purchase; with probability ``asks`` the assistant asks back for the amount or the category.

    more: the same was bought before in the same session.
    """
    thing, words = phrase(category, scene), {"x": phrase(category, scene), "a": said_amount(rng, amount, short=True)}
    if _is_short(words["a"]):
        echo = 1.0
    given = scene in _GIFTS
    if days_ago:
        words["w"] = rng.choice(_DAYS_AGO[days_ago])
        statements = _EARLIER_GIVEN if given else _EARLIER
    elif more:
        statements = _MORE_GIVEN if given else _MORE
    else:
        statements = _GIVEN if given else _STATEMENTS
    asks_back = rng.random() < asks
    if asks_back and rng.random() < 0.5 and not more:
        request = rng.choice(_REQUESTS_EARLIER if days_ago else _REQUESTS).format(**words)
        return [
            _say(rng, request),
            rng.choice(_HOW_MUCH),
            sentence(rng.choice(_THAT_MUCH).format(**words)),
            _noted(rng, amount, thing, echo),
        ]
    turns = [_say(rng, rng.choice(statements).format(**words), remark=0.0 if given else 0.3)]
    if asks_back:
        guess = category if rng.random() < 0.7 else rng.choice([c for c in CATEGORIES if c != category])
        turns += [
            rng.choice(_WHICH_CATEGORY).format(c=guess),
            rng.choice(_YES if guess == category else _NO).format(c=category),
        ]
    return [*turns, _noted(rng, amount, thing, echo)]


def _is_short(said: str) -> bool:
    return said[0].isalpha() and "dollar" not in said


def rich_two(rng: random.Random, one: tuple[str, str, Decimal], two: tuple[str, str, Decimal]) -> Turns:
    """Two purchases in one utterance."""
    words = {
        "x": phrase(one[0], one[1]), "a": said_amount(rng, one[2]),
        "y": phrase(two[0], two[1]), "b": said_amount(rng, two[2]),
    }  # fmt: skip
    given = one[1] in _GIFTS or two[1] in _GIFTS
    statements = _TWO_SAME if one[1] == two[1] else _TWO_GIVEN if given else _TWO
    return [_say(rng, rng.choice(statements).format(**words)), rng.choice(_NOTED)]


def rich_mention(rng: random.Random, kind: str, category: str, scene: str, amount: Decimal) -> Turns:
    """An amount that must not be counted; ``kind`` is one of `MENTIONS`."""
    words = {"x": phrase(category, scene), "a": said_amount(rng, amount)}
    told = [text for text in _MENTIONS[kind] if scene not in _GIFTS or not any(price in text for price in _PRICED)]
    return [_say(rng, rng.choice(told).format(**words), openings=_ASIDES), rng.choice(_INDEED[kind])]


def rich_again(rng: random.Random, category: str, scene: str, amount: Decimal) -> Turns:
    """A purchase of the same session mentioned once more; it counts once."""
    words = {"x": phrase(category, scene), "a": said_amount(rng, amount)}
    return [_say(rng, rng.choice(_AGAIN).format(**words), opening=0.2, openings=_ASIDES), rng.choice(_ONCE)]


def rich_talk(rng: random.Random) -> Turns:
    """Nothing of interest to a ledger."""
    said, heard = rng.choice(_TALK)
    return [_say(rng, rng.choice(said), opening=0.0), rng.choice(heard)]


def rich_revision(rng: random.Random, form: str, words: dict[str, str]) -> Turns:
    """A change of an earlier entry, see `small_revision`."""
    text = rng.choice(_REVISED[form]).format(**words)
    # a late entry has an opening of its own
    said = _say(rng, text if text.startswith("I ") else text[0].lower() + text[1:], 0.0 if form == "late" else 0.4)
    return [said, rng.choice(_NOTED if form == "late" else _CHANGED)]


MENTIONS = tuple(_MENTIONS)
