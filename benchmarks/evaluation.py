"""What agents and the runner cost beside the model, which is scripted here and answers at once.

    python benchmarks/evaluation.py [--out data/results/bench_evaluation.json]

- ``growth``: processor time a chunk of every agent over 500 sessions of Ledger-QA, the last hundred against the first;
  1 is flat. ``bookkeeping``: the same of UMA's memory alone, without rendering prompts and reading turns.
- ``retrieval``: a search after each new chunk, with an index that grows against one built anew each time (BM25 and
  vectors together; the encoder is replaced by a fixed projection, since both ways encode each text once).
- ``overhead``: what the runner adds to a question, against the same sessions played by `roll_out` without keeping
  anything.
- ``flight``: 10,000 questions asked at once of one stream: peak memory above that of the process before, MiB.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from uma_lib.agents.agent import Setting
from uma_lib.agents.all import KINDS, AgentSpec
from uma_lib.agents.readers import Concat
from uma_lib.engines.protocol import NoModel, Turn
from uma_lib.environment import Limits
from uma_lib.evaluation import EvaluationConfig, _Evaluation
from uma_lib.files import atomic_write_json
from uma_lib.ledger import Stream
from uma_lib.ledger.dataset import LedgerQA
from uma_lib.memory import Memory
from uma_lib.prompts import GENERAL
from uma_lib.retrieval import RetrievalIndex
from uma_lib.rollout import Context, roll_out
from uma_lib.sample import Question, Sample
from uma_lib.scoring import Gold, Score
from uma_lib.tools import render_call

SESSIONS = 500
LIMITS = Limits(session_tokens=16_000, turn_tokens=2000)


def encode(texts):
    """A fixed projection of letters to unit vectors: no model, but as many numbers as MiniLM has."""
    rng = np.random.default_rng(0)
    letters = rng.normal(size=(256, 384)).astype(np.float32)
    found = []
    for text in texts:
        vector = np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=256).astype(np.float32) @ letters
        found.append(vector / np.linalg.norm(vector))
    return np.stack(found)


class Scripted(NoModel):
    """It does what each agent asks, at once."""

    context_tokens = 10**9

    def generate(self, dialogues, *, temperature=0.0, progress=None):
        results = []
        for dialogue in dialogues:
            turn, asked = None, False
            while True:
                try:
                    ask = dialogue.send(turn)
                except StopIteration as end:
                    results.append(end.value)
                    break
                asked = asked and not ask.fresh
                turn, asked = Turn(self.said(ask, asked), True, None, 100, 10), True
        return results

    def said(self, ask, asked):
        names = {tool["function"]["name"] for tool in ask.tools or ()}
        text = ask.messages[-1]["content"]
        key = f"entry {hash(text) % 10**9}"
        if "update_core" in names:
            return render_call("add", key=key, value="12.50+8") + render_call("update_core", text="total 20")
        if "memory_insert" in names:
            return render_call("memory_insert", memory_type="semantic", content=text[-60:])
        if "JSON object" in ask.messages[0]["content"]:
            return '{"keywords": ["a"], "context": "b", "tags": []}'
        return "[] \\boxed{7}"


def growth() -> dict[str, dict[str, float]]:
    chunks = [session.text for session in Stream("small", "test", SESSIONS, 0)]
    found, engine = {}, Scripted()
    for name, kind in KINDS.items():
        agent = kind(Setting(LIMITS, GENERAL, ("k", 0), engine.count, engine.size, encode))
        seconds = []
        for chunk in chunks:
            began = time.process_time()
            engine.generate([agent.observe(chunk)])
            seconds.append(time.process_time() - began)
        found[name] = _ends(seconds)
    memory, seconds = Memory(), []
    for number in range(SESSIONS):
        began = time.process_time()
        version = memory.bank.snapshot()
        for k in range(8):
            memory.bank.add(f"2024-05-01 {number} {k}", "12.50")
        memory.bank.update(f"2024-05-01 {number} 0", "13")
        memory.bank.delete(f"2024-05-01 {number} 1")
        memory.bank.diff(version, memory.bank.snapshot())
        memory.bank.journal(version)
        memory.core.write(f"total {number}")
        seconds.append(time.process_time() - began)
    return found | {"bookkeeping": _ends(seconds)}


def _ends(seconds: list[float]) -> dict[str, float]:
    first, last = (float(np.median(part)) for part in (seconds[:100], seconds[-100:]))
    return {"first_ms": round(1000 * first, 3), "last_ms": round(1000 * last, 3), "ratio": round(last / first, 2)}


def retrieval() -> list[dict[str, float]]:
    found = []
    for count, every in ((500, 1), (5000, 100)):  # at 5,000 the naive way is measured at every 100th chunk
        texts = [session.text for session in Stream("small", "test", 500, 1)] * (count // 500)
        texts = [f"{number} {text}" for number, text in enumerate(texts)]
        cache = dict(zip(texts, encode(texts), strict=True))

        def cached(some, cache=cache):
            missing = [text for text in some if text not in cache]
            cache.update(zip(missing, encode(missing), strict=True) if missing else ())
            return np.stack([cache[text] for text in some])

        index, incremental = RetrievalIndex(cached, 10_000), 0.0
        naive, rebuilt = 0.0, 0
        for number, text in enumerate(texts):
            began = time.process_time()
            index.add_chunk(text)
            first = index.hybrid("How much was coffee?", 20)
            incremental += time.process_time() - began
            if number % every == 0:
                began = time.process_time()
                anew = RetrievalIndex(cached, 10_000)
                for one in texts[: number + 1]:
                    anew.add_chunk(one)
                assert anew.hybrid("How much was coffee?", 20) == first
                naive += time.process_time() - began
                rebuilt += 1
        a, b = 1000 * incremental / count, 1000 * naive / rebuilt
        row = {"chunks": count, "incremental_ms": round(a, 3), "rebuilt_ms": round(b, 2), "ratio": round(b / a, 1)}
        found.append(row)
    return found


class Many:
    """One stream of a few chunks with as many questions as are wanted."""

    name, metrics = "many", ("exact",)

    def __init__(self, questions: int, words: int = 30):
        asked = tuple(Question(f"many/0/{n}", f"What is {n}?", Gold("amount", ("7",))) for n in range(questions))
        self.sample = Sample("many/0", ["word " * words] * 20, asked, GENERAL)

    def samples(self, split):
        return iter([self.sample])

    def scores(self, question, answer):
        return (Score(float(answer == "7"), "exact"),)


class Quick(Concat):
    """It shows nothing, so that nothing but the runner takes time."""

    def ranked(self, question):
        return []


def overhead() -> dict[str, float]:
    config, data = EvaluationConfig(agents=("oracle",), limit=0), Many(2000)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        engine = Scripted()
        roll_out(engine, [Context("many/0", data.sample)], 1, LIMITS, ("k",), data=data, kind=Quick)
        bare = time.perf_counter() - began
        began = time.perf_counter()
        _evaluate(config, folder, data, Quick, server=True)
        kept = time.perf_counter() - began
    return {
        "questions": 2000, "bare_ms": round(bare / 2, 4), "runner_ms": round(kept / 2, 4),
        "overhead_ms": round((kept - bare) / 2, 4),
    }  # fmt: skip


def _evaluate(config, folder, data, kind, server: bool) -> None:
    """The whole runner with a scripted engine, as it keeps the rows of a model at a server: each at once."""
    spec = AgentSpec("quick", kind, "http://127.0.0.1:1/v1#scripted" if server else None)
    whole = _Evaluation(config, Path(folder), [data], [spec], {})
    whole.engine = spec.model, Scripted()
    whole.run(False, (0, 1))


def flight() -> dict[str, float]:
    """All questions are dialogues under way before the first is answered, each with its prompt of 16k tokens."""
    data = Many(10_000, words=750)

    class AllAtOnce(Scripted):
        def generate(self, dialogues, *, temperature=0.0, progress=None):
            live = [(dialogue, None) for dialogue in dialogues]
            results = [None] * len(live)
            waiting = []
            for place, (dialogue, turn) in enumerate(live):
                try:
                    waiting.append((place, dialogue, dialogue.send(turn)))
                except StopIteration as end:
                    results[place] = end.value
            for place, dialogue, _ in waiting:
                try:
                    dialogue.send(Turn("\\boxed{7}", True, None, 100, 10))
                except StopIteration as end:
                    results[place] = end.value
            return results

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        spec = AgentSpec("concat", Concat, "http://127.0.0.1:1/v1#scripted")
        config = EvaluationConfig(agents=("oracle",), session_tokens=16_384)
        whole = _Evaluation(config, Path(folder), [data], [spec], {})
        whole.engine = spec.model, AllAtOnce()
        whole.run(False, (0, 1))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"questions": 10_000, "mib": round((after - before) / 1024, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/results/bench_evaluation.json"))
    arguments = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    found = {"flight": flight(), "overhead": overhead(), "growth": growth(), "retrieval": retrieval()}
    found["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
    found["data"] = LedgerQA("small", SESSIONS).name
    atomic_write_json(arguments.out, found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
