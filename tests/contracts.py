"""What every agent, every data set and every engine keeps. Each check raises AssertionError where one does not."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from tests.memory_server import calls_for
from uma_lib.agents.agent import Agent, Kind, Setting
from uma_lib.engines.protocol import Ask, Engine, NoModel, Turn, no_room
from uma_lib.environment import Limits
from uma_lib.files import SessionError
from uma_lib.rollout import Context, roll_out
from uma_lib.sample import Dataset, Sample
from uma_lib.scoring import Gold
from uma_lib.tools import render_call

SPLITS = ("train", "validation", "test")


class FaithfulEngine(NoModel):
    """A model by the words of `memory_server`: it stores who likes what, and answers from what it is shown."""

    context_tokens = 4096

    def generate(self, dialogues, *, temperature, progress=None):
        return [self._drive(dialogue) for dialogue in dialogues]

    def _drive(self, dialogue):
        messages, turn, read, written, error = [], None, 0, 0, None
        while True:
            try:
                ask = dialogue.throw(error) if error else dialogue.send(turn)
            except StopIteration as end:
                return end.value
            error = None
            if ask.fresh:
                messages, tools, read, written = [], ask.tools, self.size(ask.messages, ask.tools), 0
                if read >= ask.budget:
                    error = no_room(read, ask.budget)
                    continue
            else:
                read += self.size(ask.messages, None)
            messages += ask.messages
            room = min(ask.max_new, ask.budget - read - written)
            if room < 1:
                turn = Turn("", False, None, read, written, full=True)
                continue
            text, stopped = self.reply(messages, tools), True
            if self.count(text) > room:
                text, stopped = " ".join(text.split()[: int(room)]), False
            messages.append({"role": "assistant", "content": text})
            written += self.count(text)
            turn = Turn(text, stopped, None, read, written)

    def reply(self, messages, tools) -> str:
        if tools:
            return "\n".join(render_call(name, **arguments) for name, arguments in calls_for(messages))
        shown, _, question = messages[-1]["content"].rpartition("Question: ")
        name = question.removeprefix("What does ").removesuffix(" like?")
        liked = [line.split(" likes ")[1] for line in shown.splitlines() if line.startswith(f"{name} likes ")]
        return f"\\boxed{{{liked[-1] if liked else 'nothing'}}}"


class Says(FaithfulEngine):
    """A model that says what a function of the messages and tools gives; ``seen`` are all messages of every turn."""

    context_tokens = 100_000

    def __init__(self, reply: Callable[[list, list | None], str]):
        self.seen: list[list[dict]] = []
        self._reply = reply

    def reply(self, messages, tools) -> str:
        self.seen.append(list(messages))
        return self._reply(messages, tools)


def check_agent(
    kind_for: Callable[[Sample], Kind], data: Dataset, sample: Sample, engine: Engine, folder: Path,
    limits: Limits | None = None, encode=None, informed: bool = False, loads: bool = True,
) -> None:  # fmt: skip
    """``kind_for`` gives the kind of agents that play a sample: an honest one is the same whatever the golds are."""
    limits = limits or Limits(session_tokens=2048)

    def play(played: Sample) -> tuple[Agent, list[str | None]]:
        context = Context("c", played)
        roll_out(engine, [context], 1, limits, (0,), data=data, kind=kind_for(played), encode=encode, informed=informed)
        (trajectory,) = context.trajectories
        assert len(trajectory.sessions) == len(played.chunks), "observe gives a trace for every chunk"
        for trace in trajectory.traces:
            for one in trace.sessions:
                assert one.read + one.written <= limits.session_tokens, "a session is over its budget"
        return trajectory.agent, [trace.answer for trace in trajectory.answers]

    agent, answers = play(sample)
    if not informed:
        wrong = tuple(replace(question, gold=_another(question.gold)) for question in sample.questions)
        assert play(sample.asking(wrong))[1] == answers, "the answers depend on the golds"

    def written(place: str) -> dict[str, bytes]:
        agent.save(folder / place)
        return {path.name: path.read_bytes() for path in (folder / place).glob("*")}

    def ask(one: Agent) -> list[str | None]:
        asked = [one.answer(question.text, question.seed_key) for question in sample.questions]
        return [trace.answer for trace in engine.generate(asked, temperature=0.0)]

    before = written("before")
    again = ask(agent)
    engine.generate([agent.answer("What does somebody else like?")] * (not informed), temperature=0.0)
    assert written("after") == before, "answering has changed the memory"
    if loads:
        assert again == answers, "the same questions have other answers the second time"
        kind = kind_for(sample)
        setting = Setting(limits, sample.guide, (0, "c", 0), engine.count, engine.size, encode,
                          sample=sample if informed else None)  # fmt: skip
        other = kind(setting)
        other.load(folder / "before")
        assert ask(other) == answers, "loaded again it answers in another way"


def _another(gold: Gold) -> Gold:
    values = {"amount": ("987654",), "dates": ("1999-12-31",), "choice": ("z", "nonsense")}
    return Gold(gold.kind, values.get(gold.kind, ("nonsense",)))


def check_dataset(data: Dataset, samples: int = 4, splits: Sequence[str] = SPLITS, draws: bool = True) -> None:
    """The first samples of each split, and draws; a set for evaluation has the split test and no draws."""
    assert data.name and data.metrics
    ids: set[str] = set()
    texts: set[tuple[str, ...]] = set()
    for split in splits:
        first, second = (list(islice(data.samples(split), samples)) for _ in range(2))
        assert [one.id for one in first] == [one.id for one in second], "the order of a split changes"
        assert first, f"the split {split} is empty"
        for sample in first:
            assert sample.id not in ids, f"{sample.id} is there twice"
            ids.add(sample.id)
            chunks = tuple(sample.chunks)
            assert chunks and all(isinstance(chunk, str) and chunk.strip() for chunk in chunks), "a chunk is empty"
            assert chunks not in texts, f"{sample.id} has the chunks of another sample"
            texts.add(chunks)
            names = [question.id for question in sample.questions]
            assert names and len(set(names)) == len(names), "ids of questions are not unique"
            assert all(name.startswith(f"{sample.id}/") for name in names), "ids of questions do not name their sample"
            for question in sample.questions:
                scores = data.scores(question, str(question.gold))
                assert tuple(score.metric for score in scores) == tuple(data.metrics)
                wanted = None if question.gold.kind == "rubric" else 1.0  # which only a judge can score
                assert scores[0].value == wanted, f"{question.id}: its own gold scores {scores[0].value}"
                name, after = question.id, question.after
                assert data.scores(question, None)[0].value in (0.0, None), f"{name}: no answer is worth something"
                assert all(0 <= k < len(chunks) for k in question.evidence), f"{name}: evidence is out of range"
                assert after is None or 0 < after <= len(chunks), f"{name}: after is out of range"
            blind = sample.blind()
            assert blind.truth is None and all(question.gold is None for question in blind.questions)
    if not draws:
        return
    one, two = (data.draw(random.Random(3), 0.5) for _ in range(2))
    assert (one.id, list(one.chunks)) == (two.id, list(two.chunks)), "a draw depends on more than its randomness"


def check_engine(engine: Engine, reference: Callable[[str], str], max_new: int = 12) -> None:
    """``reference``: what the model says to a text at temperature 0 within ``max_new`` tokens, known from elsewhere."""
    said = ["Hello", "How much did I spend?", "[2024-05-01] Noted.", "Hello"]

    def session(text: str):
        turn = yield Ask([{"role": "user", "content": text}], None, fresh=True, max_new=max_new, seed=1)
        return turn

    seen = []
    found = engine.generate(map(session, said), temperature=0.0, progress=lambda done, tokens: seen.append(done))
    wanted = [reference(text) for text in said]
    assert [turn.text for turn in found] == wanted, "it says something else, or in another order"
    assert sorted(seen) == [1, 2, 3, 4], "progress is told for each dialogue"
    again = engine.generate([session(said[1])], temperature=0.0)
    assert again[0].text == found[1].text, "alone it says something else than among others"
    for turn in found:
        assert 0 < turn.written <= max_new and turn.read > 0
        assert (turn.tokens is not None) == engine.trainable
        if turn.tokens is not None:
            tokens = turn.tokens
            assert len(tokens.ids) == turn.read + turn.written and tokens.written == turn.written
            assert len(tokens.ids) == len(tokens.sampled) == len(tokens.logprobs)
            assert all(p <= 0 for p in tokens.logprobs)
    assert engine.count("Hello") > 0 and engine.size([{"role": "user", "content": "Hello"}], None) > 0
    assert engine.generate([], temperature=0.0) == []

    def opening():
        yield Ask([{"role": "user", "content": "word " * 200}], None, fresh=True, max_new=5, budget=20)

    try:
        engine.generate([opening()], temperature=0.0)
    except SessionError as error:
        assert "session_tokens" in str(error), error
    else:
        raise AssertionError("an opening over its budget was taken")

    def caught():
        try:
            yield from opening()
        except SessionError:
            return "caught"

    found = engine.generate([caught(), session(said[0])], temperature=0.0)
    assert found[0] == "caught" and found[1].text == wanted[0], "an error of one session has reached another"
