"""Sampled tokens a second: many live sessions in one batch, beside the same sessions one after the other.

    python benchmarks/rollout.py [--model data/nano] [--out data/results/bench_rollout.json]

Every session opens with the memory prompt of one Ledger-QA chunk and has a fixed number of turns, with tool
results of a fixed text in between. A turn lasts until the end token or 32 tokens. Several sessions read each
chunk, as the rollouts of one training context do. Both ways run the same sessions with the same seeds on the
same loaded model, in turn, on one thread; the best of the repeats counts. Reading prompts and tool results is
timed, but only sampled tokens are counted. Rounding depends on the batch's shape, so a long sample may leave
its path where a number falls exactly between two tokens: the share of sessions with equal tokens is reported.
"""

import argparse
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from uma_lib import prompts
from uma_lib.engines.local import Read, Rollout
from uma_lib.engines.policy import Policy
from uma_lib.environment import MemorySession
from uma_lib.files import RunError, atomic_write_json
from uma_lib.ledger import Stream
from uma_lib.ledger.dataset import guide
from uma_lib.paths import BASE

SESSIONS_A_CHUNK = 8
TURNS = 4
MAX_NEW = 32
RESULTS = ["ok", "error: key '2024-05-01 Dining' already exists; use update"]


def session(policy: Policy, number: int, seed: int) -> Rollout[list[list[int]]]:
    """One session; returns the tokens of its turns."""
    stream = Stream("small", "train", 1, seed + number // SESSIONS_A_CHUNK)
    messages = prompts.memory_session("", stream.session(0).text, guide())
    add = policy.chat.open(messages, MemorySession.schemas)
    turns = []
    for turn in range(TURNS):
        done = yield Read(add, fresh=turn == 0, max_new=MAX_NEW, seed=1000 * number + turn)
        turns.append(done.ids)
        add = policy.chat.results(RESULTS, done.stopped)
    return turns


def run(policy: Policy, sessions: int, slots: int, seed: int) -> tuple[list[list[list[int]]], float]:
    """All sessions with so many slots: their tokens, and the seconds it took."""
    rollouts: Iterator[Rollout] = (session(policy, number, seed) for number in range(sessions))
    start = time.perf_counter()
    found = policy.sample(rollouts, temperature=1.0, slots=slots)
    return found, time.perf_counter() - start


def measure(policy: Policy, sessions: int, slots: int, repeats: int, seed: int) -> dict[str, float | int]:
    run(policy, slots, slots, seed)  # warm up
    batched_seconds, alone_seconds = [], []
    for _ in range(repeats):
        batched, seconds = run(policy, sessions, slots, seed)
        batched_seconds.append(seconds)
        alone, seconds = run(policy, sessions, 1, seed)
        alone_seconds.append(seconds)
    tokens = sum(len(turn) for turns in batched for turn in turns)
    tokens_alone = sum(len(turn) for turns in alone for turn in turns)
    fast, slow = tokens / min(batched_seconds), tokens_alone / min(alone_seconds)
    return {
        "sampled_tokens": tokens,
        "prompt_tokens": len(next(session(policy, 0, seed)).tokens),
        "batched_tokens_per_second": round(fast),
        "one_by_one_tokens_per_second": round(slow),
        "ratio": round(fast / slow, 1),
        "sessions_with_equal_tokens": sum(a == b for a, b in zip(batched, alone, strict=True)) / sessions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Tokens a second of batched sessions and of single ones.")
    parser.add_argument("--model", default=BASE, help="model folder or hub name (default: data/nano)")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--slots", type=int, default=64, help="live sessions in the batch (default: 64)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the streams (default: 0)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        policy = Policy.load(arguments.model)
    except RunError as error:
        raise SystemExit(f"error: {error}") from error
    found = measure(policy, arguments.sessions, arguments.slots, arguments.repeats, arguments.seed)
    print(f"{arguments.sessions} sessions of {TURNS} turns, {found['sampled_tokens']:,} sampled tokens")
    print(f"one after the other     {found['one_by_one_tokens_per_second']:>7,} tokens/s")
    print(f"{arguments.slots:>4} live in one batch  {found['batched_tokens_per_second']:>7,} tokens/s")
    print(f"ratio                   {found['ratio']:>7}x")
    print(f"sessions with equal tokens: {found['sessions_with_equal_tokens']:.0%}")
    if arguments.out is not None:
        shape = {name: value for name, value in vars(arguments).items() if name not in ("out", "model")}
        results = {
            **shape,
            "turns": TURNS,
            "max_new": MAX_NEW,
            "sessions_a_chunk": SESSIONS_A_CHUNK,
            "kept": "best repeat",
            "parameters": sum(weight.numel() for weight in policy.model.parameters()),
            "device": policy.model.device.type,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            **found,
        }
        atomic_write_json(arguments.out, results)


if __name__ == "__main__":
    main()
