"""Generation of many sessions at once: continuous batching over a cache that stays in place across turns.

A rollout is a Python generator: it yields an `Read` (tokens to read, how many to sample) and is sent the
sampled `Sampled`. `drive` runs any number of rollouts together: every decoding step advances all live sessions
by one token, and what the sessions have in common at their beginnings is read once.

A turn's randomness depends on its own seed alone, so the number of slots, the other sessions of the batch and
the process that runs it do not change what is sampled (up to rounding: batches of another shape add up in
another order). This module holds the role of the generation server in the published system (arXiv 2602.18493,
section 4); it knows nothing about texts.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from transformers.cache_utils import Cache

from uma_lib.files import RunError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Read:
    """What a rollout wants next: read `tokens`, then sample a turn."""

    tokens: list[int]  # appended to the session's context before sampling
    fresh: bool  # start from an empty context (a new session)
    max_new: int  # sample at most this many tokens, at least 1
    seed: int  # not negative; the noise of this turn depends on it alone


@dataclass(frozen=True, slots=True)
class Sampled:
    """What the policy did: the sampled tokens, the end-of-turn token included if it was sampled."""

    ids: list[int]
    logprobs: list[float]  # of each sampled token, under the sampling distribution (temperature included)
    stopped: bool  # True: the end token was sampled; False: cut by `max_new` or by the context's size


Rollout = Generator[Read, Sampled, T]


class SlotCache(Cache):
    """Keys and values of every slot, [slots, kv_heads, capacity, head_dim] a layer.

    Rows are written at any position: before each forward `plan` says where the new entries go and what is
    attended to. Entries past a row's length are stale: the attention mask must hide them. `capacity` grows on
    demand.
    """

    def __init__(self, slots: int):
        super().__init__(layers=[])
        self.slots = slots
        self.capacity = 256
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def plan(
        self,
        rows: slice | torch.Tensor,
        length: int,
        into: tuple[torch.Tensor, torch.Tensor],
        chosen: torch.Tensor | None = None,
    ) -> None:
        """What the next forward does: attend to the first `length` entries of `rows` (a slice is read without
        a copy) and write its new entries `into` (rows, positions), of the flattened [rows x block] those that
        are `chosen`."""
        self._rows, self._length, self._into, self._chosen = rows, length, into, chosen
        if length > self.capacity:
            self.capacity = max(length, self.capacity * 3 // 2)
            self.keys = [self._grown(layer) for layer in self.keys]
            self.values = [self._grown(layer) for layer in self.values]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if layer_idx == len(self.keys):
            _, heads, _, size = key_states.shape
            self.keys.append(key_states.new_zeros(self.slots, heads, self.capacity, size))
            self.values.append(value_states.new_zeros(self.slots, heads, self.capacity, value_states.shape[-1]))
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        return self._store(keys, key_states), self._store(values, value_states)

    def copy(self, source: int, target: int, start: int, stop: int) -> None:
        """Copy the entries at positions start..stop-1 from one row to another."""
        for layer in self.keys + self.values:
            layer[target, :, start:stop] = layer[source, :, start:stop]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # rows differ in length: positions and masks are always given explicitly

    def _store(self, layer: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        new = new.transpose(1, 2).flatten(0, 1)
        row, position = self._into
        layer[row, :, position] = new if self._chosen is None else new[self._chosen]
        return layer[self._rows, :, : self._length]

    def _grown(self, layer: torch.Tensor) -> torch.Tensor:
        grown = layer.new_zeros(*layer.shape[:2], self.capacity, layer.shape[3])
        grown[:, :, : layer.shape[2]] = layer
        return grown


class Slots:
    """The token sequences of up to `slots` live sessions and their common cache.

    Row r knows `known[r]` tokens, of which the first `cached[r]` are in the cache. A step feeds every row its
    next known token; a row that has no further one samples. So a row with tokens still to read loses little
    while it waits until reading them as a block (`read`) is worth a forward pass. Live rows are always
    0..live-1.
    """

    BLOCK = 2048  # tokens read in one forward pass, at most (a bound on memory)
    WORTH = 2  # read as a block once the waiting tokens exceed this many a live row
    SHARE = 16  # copy another session's beginning if it saves at least this many tokens

    def __init__(self, model: torch.nn.Module, slots: int, end_ids: set[int], temperature: float, context: int):
        self.model, self.temperature, self.context = model, temperature, context
        self.device = next(model.parameters()).device
        self.end_ids = np.array(sorted(end_ids))
        self.cache = SlotCache(slots)
        self.live = 0
        self.sampled = 0
        self.known = np.zeros(slots, dtype=np.int64)
        self.cached = np.zeros(slots, dtype=np.int64)
        self.start = np.zeros(slots, dtype=np.int64)  # where the row's current turn begins
        self.limit = np.zeros(slots, dtype=np.int64)  # where it is cut
        self.fresh = np.zeros(slots, dtype=bool)  # a new prompt that was not compared with the other rows yet
        self.tokens = np.zeros((slots, 256), dtype=np.int64)
        self.logprobs = np.zeros((slots, 256), dtype=np.float32)
        self.noise = np.zeros((slots, 256))  # uniform in [0, 1), for the token at the same position

    def ask(self, row: int, ask: Read) -> bool:
        """Append the tokens of `ask` and begin a turn; False, and nothing changed, if there is no room."""
        fresh = ask.fresh or not self.known[row]
        begin = 0 if fresh else int(self.known[row])
        start = begin + len(ask.tokens)
        if ask.max_new < 1 or start < 1:
            raise ValueError(
                f"nothing to do: a context of {start} tokens, max_new {ask.max_new}; both must be positive"
            )
        if start >= self.context:
            return False
        limit = min(start + ask.max_new, self.context)
        if limit > self.tokens.shape[1]:
            wider = ((0, 0), (0, max(limit, self.tokens.shape[1] * 3 // 2) - self.tokens.shape[1]))
            self.tokens, self.logprobs = np.pad(self.tokens, wider), np.pad(self.logprobs, wider)
            self.noise = np.pad(self.noise, wider)
        if fresh:  # what the row's last session began with too stays in the cache
            self.cached[row] = _common(self.tokens[row, : self.cached[row]], ask.tokens[:-1])
            self.fresh[row] = True
        self.tokens[row, begin:start] = ask.tokens
        self.noise[row, start:limit] = np.random.default_rng(ask.seed).random(limit - start)
        self.known[row] = self.start[row] = start
        self.limit[row] = limit
        return True

    def clear(self, row: int) -> None:
        """A rollout takes the row: its context is empty (the cache keeps what may be shared)."""
        self.known[row] = 0

    def turn(self, row: int, stopped: bool) -> Sampled:
        span = slice(self.start[row], self.known[row])
        return Sampled(self.tokens[row, span].tolist(), self.logprobs[row, span].tolist(), stopped)

    def close(self, row: int) -> None:
        """End row `row`; the last live row takes its place."""
        self.live -= 1
        last = self.live
        if row != last:
            self.cache.copy(last, row, 0, int(self.cached[last]))
            for array in (self.known, self.cached, self.start, self.limit, self.fresh):
                array[row] = array[last]
            for array in (self.tokens, self.logprobs, self.noise):
                array[row] = array[last]

    def step(self) -> list[tuple[int, bool]]:
        """Advance all live rows by one token; returns (row, stopped) of ended turns, last row first."""
        rows = slice(0, self.live)
        waiting = self.known[rows] - self.cached[rows] - 1
        if waiting.sum() >= self.WORTH * self.live:
            self.read(np.flatnonzero(waiting))
        index = np.arange(self.live)
        position = self.cached[rows].copy()
        logits = self._forward(rows, self.tokens[index, position][:, None], position[:, None])
        self.cached[rows] += 1
        token, logprob = self._sample(logits, self.noise[index, position + 1])
        if not np.isfinite(logprob).all():
            raise RunError("the model's logits are not finite: lower the learning rate, or use float32")
        index = np.flatnonzero(self.cached[rows] == self.known[rows])
        token, end = token[index], self.known[index]
        self.tokens[index, end] = token
        self.logprobs[index, end] = logprob[index]
        self.known[index] += 1
        self.sampled += len(index)
        stopped = np.isin(token, self.end_ids)
        over = np.flatnonzero(stopped | (self.known[index] >= self.limit[index]))[::-1]
        return list(zip(index[over].tolist(), stopped[over].tolist(), strict=True))

    def read(self, rows: np.ndarray) -> None:
        """Bring all known tokens of `rows` but the last into the cache.

        Sessions of one context begin alike, so a new prompt first takes over the longest beginning that any
        row has in the cache; of prompts that share more with each other than with the cache, one goes ahead.
        """
        while len(rows):
            for row in rows[self.fresh[rows]]:
                self._share(row)
            rows = np.array(sorted(rows, key=lambda row: self.tokens[row, : self.known[row]].tolist()))
            ahead = np.ones(len(rows), dtype=bool)
            for i in range(1, len(rows)):
                row, other = rows[i], rows[i - 1]
                if self.fresh[row] and self.fresh[other]:
                    common = _common(
                        self.tokens[other, : self.known[other] - 1], self.tokens[row, : self.known[row] - 1]
                    )
                    ahead[i] = common < self.cached[row] + self.SHARE
            self._read_blocks(rows[ahead])
            self.fresh[rows[ahead]] = False
            rows = rows[~ahead]

    def _share(self, row: int) -> None:
        prompt = self.tokens[row, : self.known[row] - 1]
        same = self.tokens[:, : len(prompt)] == prompt
        same &= np.arange(len(prompt)) < self.cached[:, None]
        common = np.where(same.all(axis=1), len(prompt), same.argmin(axis=1))
        source = int(common.argmax())
        if common[source] >= self.cached[row] + self.SHARE:
            self.cache.copy(source, int(row), int(self.cached[row]), int(common[source]))
            self.cached[row] = common[source]

    def _read_blocks(self, rows: np.ndarray) -> None:
        """Read in blocks of rows with similar amounts left, longest first."""
        while True:
            left = self.known[rows] - 1 - self.cached[rows]
            rows, left = rows[left > 0], left[left > 0]
            if not len(rows):
                return
            order = np.argsort(-left, kind="stable")
            width = min(int(left[order[0]]), self.BLOCK)
            group = order[left[order] * 2 >= width][: max(1, self.BLOCK // width)]
            chosen, size = rows[group], np.minimum(left[group], width)
            column = np.arange(width)
            # the padding at a row's right end repeats its last position and is not written
            position = self.cached[chosen][:, None] + np.minimum(column, size[:, None] - 1)
            self._forward(chosen, self.tokens[chosen[:, None], position], position, column < size[:, None])
            self.cached[chosen] += size

    def _forward(
        self, rows: slice | np.ndarray, ids: np.ndarray, position: np.ndarray, real: np.ndarray | None = None
    ) -> torch.Tensor:
        """Feed ids [rows, block] at `position` and return the logits of the last column, [rows,
        vocabulary]."""
        length = int(position.max()) + 1
        where = torch.from_numpy(position).to(self.device)
        if isinstance(rows, slice):
            self.cache.plan(rows, length, (torch.arange(len(ids), device=self.device), where[:, 0]))
        else:
            row = torch.from_numpy(rows).to(self.device)
            chosen = torch.from_numpy(np.flatnonzero(real)).to(self.device)
            into = (row[:, None].expand_as(where).flatten()[chosen], where.flatten()[chosen])
            self.cache.plan(row, length, into, chosen)
        return self.model(
            input_ids=torch.from_numpy(ids).to(self.device),
            attention_mask=(torch.arange(length, device=self.device) <= where[:, :, None])[:, None],
            position_ids=where,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]

    def _sample(self, logits: torch.Tensor, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens [rows] and their log-probabilities; temperature 0 takes the likeliest (scored at 1).

        Sampling inverts the cumulative distribution: one uniform number a token, whatever the vocabulary.
        """
        logprobs = torch.log_softmax(logits.float() / (self.temperature or 1.0), dim=-1)
        if self.temperature == 0:
            token = logprobs.argmax(dim=-1, keepdim=True)
        else:
            cumulative = logprobs.exp().cumsum(dim=-1, dtype=torch.float64)
            level = torch.from_numpy(noise).to(self.device)[:, None] * cumulative[:, -1:]
            token = torch.searchsorted(cumulative, level, right=True).clamp_(max=logits.shape[-1] - 1)
        return token[:, 0].cpu().numpy(), logprobs.gather(-1, token)[:, 0].cpu().numpy()


def _common(first: Sequence[int] | np.ndarray, second: Sequence[int] | np.ndarray) -> int:
    """Length of the common beginning."""
    size = min(len(first), len(second))
    differ = np.flatnonzero(np.asarray(first[:size]) != np.asarray(second[:size]))
    return int(differ[0]) if len(differ) else size


def drive(
    engine: Slots, waiting: Iterator[Rollout[T]], slots: int, progress: Callable[[int, int], None] | None
) -> list[T]:
    """Drive the rollouts to their end, in `slots` rows; see `Policy.sample`."""
    results: list[Any] = []  # one place a rollout, in the order they were started
    finished = 0
    running: list[tuple[int, Rollout[T]]] = []  # by row: place in `results`, generator

    def advance(row: int, turn: Sampled | None) -> bool:
        """Send the row's rollout its turn; when it ends, start the next one. False: none is left to start."""
        nonlocal finished
        while True:
            if turn is None:
                rollout = next(waiting, None)
                if rollout is None:
                    return False
                engine.clear(row)
                running[row] = (len(results), rollout)
                results.append(None)
            place, rollout = running[row]
            try:
                ask = rollout.send(turn)
            except StopIteration as end:
                results[place] = end.value
                turn = None
                finished += 1
                if progress is not None:
                    progress(finished, engine.sampled)
                continue
            if engine.ask(row, ask):
                return True
            turn = Sampled([], [], False)

    for row in range(slots):
        running.append((-1, None))
        if not advance(row, None):
            running.pop()
            break
        engine.live += 1
    while engine.live:
        for row, stopped in engine.step():
            if not advance(row, engine.turn(row, stopped)):
                engine.close(row)
                running[row] = running[engine.live]
                running.pop()
    return results
