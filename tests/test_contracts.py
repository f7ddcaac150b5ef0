"""The contracts over all agents, data sets and engines, and for each a counterexample that they refuse."""

import json

import pytest

from tests.contracts import FaithfulEngine, check_agent, check_dataset, check_engine
from tests.model_server import completion, server
from tests.toys import Likes
from uma_lib.agents.agent import Trace
from uma_lib.agents.all import KINDS
from uma_lib.agents.readers import Concat
from uma_lib.agents.uma import UMA
from uma_lib.engines.policy import Policy
from uma_lib.engines.protocol import NoModel, Turn
from uma_lib.engines.remote import Remote
from uma_lib.ledger.dataset import LedgerQA
from uma_lib.nano.agents import Oracle, Scripted
from uma_lib.paths import BASE
from uma_lib.scoring import Score

from .test_readers import encode

LIKES = Likes()
SAMPLE = next(LIKES.samples("test"))


# --- agents -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS.values(), Oracle], ids=[*KINDS, "oracle"])
def test_agents(kind, tmp_path):
    check_agent(lambda _: kind, LIKES, SAMPLE, FaithfulEngine(), tmp_path, encode=encode, informed=kind is Oracle)


def test_the_script(tmp_path):
    data = LedgerQA(sessions=3)
    sample = next(data.samples("test"))
    check_agent(lambda _: Scripted, data, sample, NoModel(), tmp_path, informed=True, loads=False)


def test_agents_on_a_local_model(tiny_policy, tmp_path):
    from uma_lib.environment import Limits

    for name in ("uma", "concat"):
        limits = Limits(session_tokens=1000, turn_tokens=10)
        tiny_policy.slots = 3
        check_agent(lambda _, k=KINDS[name]: k, LIKES, SAMPLE, Greedy(tiny_policy), tmp_path / name, limits)


class Greedy:
    """A policy at temperature 0, so that what is loaded can be compared."""

    def __init__(self, policy):
        self.policy, self.count, self.size = policy, policy.count, policy.size
        self.context_tokens = policy.context_tokens

    def generate(self, dialogues, *, temperature, progress=None):
        return self.policy.generate(dialogues, temperature=0.0, progress=progress)


def peeking(sample):
    golds = {question.text: str(question.gold) for question in sample.questions}

    class Peeking(UMA):
        def answer(self, question, key=""):
            trace = yield from super().answer(question, key)
            trace.answer = golds[question]
            return trace

    return Peeking


class Writing(UMA):
    """It changes its memory when it answers."""

    def answer(self, question, key=""):
        trace = yield from super().answer(question, key)
        self.memory.bank.add(question, "asked")
        return trace


class Forgetful(Concat):
    """It saves nothing."""

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, folder):
        pass


class Greedier(Concat):
    """It shows more than fits."""

    def answer(self, question, key=""):
        trace = yield from super().answer(question, key)
        return Trace("question", trace.messages, None, 5000, trace.written, answer=trace.answer)


@pytest.mark.parametrize(
    ("kind_for", "said"),
    [
        (peeking, "depend on the golds"), (lambda _: Writing, "has changed the memory"),
        (lambda _: Forgetful, "loaded again"), (lambda _: Greedier, "over its budget"),
    ],
)  # fmt: skip
def test_agents_that_break_the_contract(kind_for, said, tmp_path):
    with pytest.raises(AssertionError, match=said):
        check_agent(kind_for, LIKES, SAMPLE, FaithfulEngine(), tmp_path)


# --- data sets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [LIKES, LedgerQA(), LedgerQA("standard", 5), LedgerQA("hard", 2), LedgerQA("small", 10, revisions=0.4)],
    ids=lambda data: data.name,
)  # fmt: skip
def test_datasets(data):
    check_dataset(data)


class Worthless(Likes):
    def scores(self, question, answer):
        return (Score(0.0, "exact"),)


class Overlapping(Likes):
    def samples(self, split):
        return super().samples("test")


class Elsewhere(Likes):
    def samples(self, split):
        from dataclasses import replace

        for sample in super().samples(split):
            yield sample.asking([replace(q, evidence=(99,)) for q in sample.questions])


class Shuffled(Likes):
    calls = 0

    def samples(self, split):
        Shuffled.calls += 1
        made = list(super().samples(split))
        return iter(made if Shuffled.calls % 2 else made[::-1])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (Worthless(), "its own gold scores 0.0"), (Overlapping(), "is there twice"),
        (Elsewhere(), "evidence is out of range"), (Shuffled(), "the order of a split changes"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_datasets_that_break_the_contract(data, said):
    with pytest.raises(AssertionError, match=said):
        check_dataset(data)


# --- engines ------------------------------------------------------------------------------------------------------


def greedy(policy, max_new=12):
    """What transformers itself generates."""
    import torch

    def reference(text: str) -> str:
        prompt = policy.chat.open([{"role": "user", "content": text}], None)
        with torch.no_grad():
            made = policy.model.generate(
                torch.tensor([prompt]), max_new_tokens=max_new, do_sample=False, pad_token_id=0,
                eos_token_id=sorted(policy.chat.end_ids),
            )  # fmt: skip
        return policy.chat.decode(made[0, len(prompt) :].tolist())

    return reference


@pytest.fixture(scope="module")
def nano():
    return Policy.load(BASE, device="cpu")


def test_the_local_engine(nano):
    check_engine(nano, greedy(nano))


def upper(body, number, headers):
    return completion(body["messages"][-1]["content"].upper())


@pytest.mark.parametrize("native", [True, False])
def test_the_remote_engine(native):
    with server(upper) as (url, _):
        check_engine(Remote(url, "m", native_tools=native), str.upper)


class Losing:
    """An engine that loses the last token of each turn."""

    def __init__(self, engine):
        self.engine = engine
        self.count, self.size, self.trainable = engine.count, engine.size, engine.trainable

    def generate(self, dialogues, *, temperature, progress=None):
        found = self.engine.generate(dialogues, temperature=temperature, progress=progress)
        return [Turn(t.text[:-1], t.stopped, t.tokens, t.read, t.written) if isinstance(t, Turn) else t for t in found]


class Swapping(Losing):
    """An engine that gives results back as they come."""

    def generate(self, dialogues, *, temperature, progress=None):
        return self.engine.generate(dialogues, temperature=temperature, progress=progress)[::-1]


@pytest.mark.parametrize("wrapper", [Losing, Swapping])
def test_engines_that_break_the_contract(wrapper, nano):
    with pytest.raises(AssertionError, match="it says something else"):
        check_engine(wrapper(nano), greedy(nano))
    with server(upper) as (url, _), pytest.raises(AssertionError, match="it says something else"):
        check_engine(wrapper(Remote(url, "m")), str.upper)


# --- traces -------------------------------------------------------------------------------------------------------


def test_traces_go_through_json_and_back():
    engine, agent = FaithfulEngine(), None
    from uma_lib.agents.agent import Setting

    agent = UMA(Setting(count=engine.count, size=engine.size))
    traces = engine.generate([agent.observe("Ann likes tea\nBob likes milk"), agent.answer("What does Ann like?")],
                             temperature=0.0)  # fmt: skip
    for trace in traces:
        again = Trace.from_json(json.loads(json.dumps(trace.to_json())))
        assert again == trace and again.valid_calls == len(trace.calls) > 0
    assert traces[0].diff.added == {"Ann": "tea", "Bob": "milk"} and traces[1].answer == "tea"
