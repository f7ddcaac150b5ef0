"""A data set and an agent as somebody might add them: one class each, and nothing else."""

from __future__ import annotations

from uma_lib.agents.agent import Trace
from uma_lib.engines.protocol import Ask
from uma_lib.prompts import GENERAL
from uma_lib.sample import Question, Sample
from uma_lib.scoring import Gold, Score, score
from uma_lib.seeds import seed_of

NAMES = ("Ann", "Bob", "Cy", "Di", "Ed", "Flo")
THINGS = ("tea", "milk", "nuts", "rice", "figs", "kale", "corn", "peas")


class Likes:
    """Who likes what, which may change later; three chunks, two questions."""

    name = "likes"
    metrics = ("exact",)

    def sample(self, split, number):
        import random

        rng = random.Random(f"{split}/{number}")
        names = rng.sample(NAMES, 3)
        liked = {name: rng.choice(THINGS) for name in names}
        chunks = [f"{name} likes {liked[name]}" for name in names]
        name = f"likes/{split}/{number}"
        questions = tuple(
            Question(f"{name}/{k}", f"What does {who} like?", Gold("categories", (liked[who],)), evidence=(k,),
                     after=k + 1 if k == 0 else None)
            for k, who in enumerate(names[:2])
        )  # fmt: skip
        return Sample(name, [f"{chunk}\nNumber {number} of {split}." for chunk in chunks], questions, GENERAL)

    def samples(self, split):
        return (self.sample(split, number) for number in range(6))

    def draw(self, rng, progress):
        return self.sample("train", rng.randrange(6))

    def scores(self, question, answer):
        return (Score(score(answer or "", question.gold), "exact"),)


class Diary:
    """It asks the model for a line about each chunk, and answers from the lines."""

    def __init__(self, setting):
        self.setting, self.lines = setting, []

    def say(self, text, *key):
        limits = self.setting.limits
        messages = [{"role": "user", "content": text}]
        seed = seed_of(*self.setting.key, *key)
        return (yield Ask(messages, None, True, limits.turn_tokens, limits.session_tokens, seed))

    def observe(self, chunk):
        turn = yield from self.say(f"Say it in a line: {chunk}", "memory", len(self.lines))
        self.lines.append(turn.text)
        return Trace("memory", tokens=turn.tokens, read=turn.read, written=turn.written)

    def answer(self, question, key=""):
        turn = yield from self.say("\n".join([*self.lines, question]), "question", key or question)
        return Trace("question", tokens=turn.tokens, read=turn.read, written=turn.written, answer=turn.text)

    def save(self, folder):
        raise NotImplementedError

    load = save
