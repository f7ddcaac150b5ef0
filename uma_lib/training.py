"""Task-Stratified GRPO on nested trajectories (paper section 4, algorithm 1), as one compact loop.

A step: for each of ``contexts`` streams sample N memory trajectories, ask the same M questions from each final
memory, score, and give advantages in separate groups: the N trajectories of a context are one group, the N sessions
of each question another. Every session of memory trajectory i carries A_i, where G_i is the mean reward of its
questions (eq. 4). The objective is the clipped policy gradient over all sampled tokens, averaged over tokens; prompts
and tool results are masked out.

It does not know how sessions are played (`rollout.py`) or scored (`scoring.py`).

Deviations from the paper, all switches: the weight of tool validity is 0.05 instead of 0.5 (dividing by a group's
standard deviation otherwise lets tool-only differences decide whenever answers tie); a floor under that standard
deviation; ``beta`` is 0 by default (1e-3 in the paper). Sessions whose advantage is zero are left out of the update,
their tokens out of the mean.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from uma_lib.credit import group_advantages, question_reward, tool_reward, trajectory_return
from uma_lib.distributed import accelerator, sum_gradients, writer
from uma_lib.engines.load import adapter_config, folder_of, new_adapter
from uma_lib.engines.policy import Policy, token_logprobs
from uma_lib.environment import Limits
from uma_lib.files import RunError
from uma_lib.ledger import MOST_SESSIONS, SIZES, Stream
from uma_lib.parameters import bounded, unknown
from uma_lib.resume import model_inputs, reading, save_checkpoint
from uma_lib.retrieval import MiniLM
from uma_lib.rollout import Context, Tokens, check_room, held_out_contexts, roll_out
from uma_lib.runs import MetricsLog, Run


@dataclass(frozen=True)
class TrainingConfig:
    """One training run. The defaults are the CPU run; ``notebooks/params`` holds the paper's values."""

    # what is trained
    base: str = "data/nano"  # model to start from: a folder or a hub name; an adapter is trained on
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # of weights and arithmetic
    lora_rank: int = 0  # of the adapter that is trained; 0: all weights are
    seed: int = 0  # of streams, sampling and an adapter's first weights
    # streams
    size: str = "small"  # of the Ledger-QA sessions: small, standard or hard
    lengths: tuple[int, ...] = (2, 3, 4)  # sessions of a training stream, drawn evenly
    late_lengths: tuple[int, ...] = (4, 6, 8)  # the same after late_from of the steps
    late_from: float = 0.5  # share of the steps
    schema_given: bool = True  # whether the prompts say how to name entries
    # rollouts
    steps: int = 60  # in all
    contexts: int = 12  # streams a step
    trajectories: int = 8  # N, memory trajectories of a stream
    questions: int = 6  # M at most, the same for all N trajectories
    temperature: float = 1.0  # of sampling, in evaluation too
    slots: int = 64  # sessions decoded together
    session_tokens: int = 1024  # budget of a session, its prompt included
    turn_tokens: int = 768  # budget of what is written in one turn
    core_tokens: int = 128  # budget of the core memory
    raw_search: bool = False  # question sessions may search the raw chunks
    # reward and advantages
    tool_weight: float = 0.05  # lambda_tool; 0.5 in the paper
    std_floor: float = 0.1  # under a group's standard deviation
    stratified: bool = True  # False: one group for everything (ablation of the paper)
    # updates
    lr: float = 5e-4  # of AdamW, at its highest
    warmup_steps: int = 3  # in which the learning rate rises, linearly; 0: it does not
    decay: float = 0.4  # share of the steps, at the end, in which the learning rate falls to zero, linearly
    adam_beta2: float = 0.99  # of AdamW's mean of squared gradients
    updates: int = 2  # optimizer steps on the sessions of one rollout
    clip: float = 0.2  # of the ratio of probabilities, to 1 - clip .. 1 + clip
    beta: float = 0.0  # weight of the KL penalty to the base; with an adapter, to the model without it
    max_grad_norm: float = 1.0  # longer gradients are scaled down to it
    micro_tokens: int = 4096  # padded tokens of one forward pass
    # evaluation on fixed held-out streams, and checkpoints
    eval_every: int = 10  # steps between evaluations
    eval_streams: int = 24  # with one question of each kind
    eval_sessions: int = 10  # of each of these streams
    save_every: int = 5  # steps between checkpoints

    def __post_init__(self) -> None:
        least_one, sessions = (1, math.inf), (1, MOST_SESSIONS)
        bounded(
            self, steps=least_one, contexts=least_one, questions=least_one, updates=least_one, eval_every=least_one,
            eval_streams=least_one, eval_sessions=sessions, save_every=least_one, slots=(1, 4096), lengths=sessions,
            late_lengths=sessions, turn_tokens=least_one, core_tokens=least_one, session_tokens=least_one,
            micro_tokens=least_one, lora_rank=(0, 4096), warmup_steps=(0, math.inf), seed=(0, math.inf),
            trajectories=(2, math.inf),  # a group of one has no advantage
            late_from=(0, 1), decay=(0, 1), adam_beta2=(0, 0.999999), tool_weight=(0, math.inf),
            std_floor=(0, math.inf), beta=(0, math.inf), clip=(1e-6, math.inf), max_grad_norm=(1e-9, math.inf),
            temperature=(1e-3, 100), lr=(1e-12, math.inf),
        )  # fmt: skip
        if not self.lengths or not self.late_lengths:
            raise ValueError("lengths and late_lengths need at least one number of sessions")
        if self.size not in SIZES:
            raise ValueError(unknown("size", self.size, SIZES))

    @property
    def limits(self) -> Limits:
        return Limits(core_tokens=self.core_tokens, session_tokens=self.session_tokens, turn_tokens=self.turn_tokens)


@dataclass
class Sample:
    """One session to learn from."""

    tokens: Tokens
    advantage: float


# --- contexts, rewards, advantages --------------------------------------------------------------------------------


def training_contexts(config: TrainingConfig, step: int) -> list[Context]:
    """The streams and questions of a step, from seeds of their own."""
    lengths = config.lengths if step < config.late_from * config.steps else config.late_lengths
    contexts = []
    for number in range(config.contexts):
        rng = random.Random(f"{config.seed}/{step}/{number}")
        stream = Stream(config.size, "train", rng.choice(lengths), rng.randrange(2**40))
        questions = stream.questions()
        questions = rng.sample(questions, min(config.questions, len(questions)))
        contexts.append(Context(f"{step}/{number}", stream, questions))
    return contexts


def rewards_of(contexts: list[Context], tool_weight: float) -> Iterator[tuple[tuple, float, list[Tokens]]]:
    """(group, reward, sessions that carry its advantage) for memory trajectories and question sessions."""
    for context in contexts:
        for i, trajectory in enumerate(context.trajectories):
            rewards = []
            for j, (played, outcome) in enumerate(zip(context.answers[i], context.outcomes(i), strict=True)):
                session = played.session
                reward = question_reward(outcome, tool_reward(session.valid_calls, len(session.calls)), tool_weight)
                rewards.append(reward)
                yield ("question", context.name, j), reward, [played.tokens]
            valid = sum(played.session.valid_calls for played in trajectory.sessions)
            calls = sum(len(played.session.calls) for played in trajectory.sessions)
            # the mean over its questions (eq. 4), and its own calls as in the authors' code
            own = tool_weight * tool_reward(valid, calls)
            yield (
                ("memory", context.name),
                trajectory_return(rewards) + own,
                [p.tokens for p in trajectory.sessions],
            )


def samples_of(contexts: list[Context], config: TrainingConfig) -> list[Sample]:
    """Sessions with a non-zero advantage, of this process; groups lie within a process unless there is one for all."""
    rows = list(rewards_of(contexts, config.tool_weight))
    rewards = [reward for _, reward, _ in rows]
    if config.stratified:
        advantages = group_advantages(rewards, [group for group, _, _ in rows], config.std_floor)
    else:
        everywhere = gather_object([rewards])
        flat = group_advantages(
            [r for part in everywhere for r in part], ["all"] * sum(map(len, everywhere)), config.std_floor
        )
        before = sum(len(part) for part in everywhere[: PartialState().process_index])
        advantages = flat[before : before + len(rewards)]
    return [
        Sample(tokens, advantage)
        for (_, _, sessions), advantage in zip(rows, advantages, strict=True)
        for tokens in sessions
        if advantage and tokens.written
    ]


# --- objective ----------------------------------------------------------------------------------------------------


def micro_batches(samples: list[Sample], micro_tokens: int) -> Iterator[list[Sample]]:
    """Samples sorted by length, so that little is padded, in groups of at most ``micro_tokens`` padded tokens."""
    group: list[Sample] = []
    for sample in sorted(samples, key=lambda s: len(s.tokens.ids)):
        if group and (len(group) + 1) * len(sample.tokens.ids) > micro_tokens:
            yield group
            group = []
        group.append(sample)
    if group:
        yield group


def objective(
    logprobs: torch.Tensor,
    old: torch.Tensor,
    mask: torch.Tensor,
    advantages: torch.Tensor,
    clip: float,
    reference: torch.Tensor | None = None,
    beta: float = 0.0,
) -> torch.Tensor:
    """Summed loss of the clipped policy gradient (PPO's surrogate), with the k3 estimate of the KL to the reference.

    logprobs, old, reference: [sessions, tokens]; mask: True on sampled tokens; advantages: [sessions].
    """
    ratio = (logprobs - old).exp()
    gain = advantages[:, None]
    loss = -torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
    if reference is not None:
        difference = reference - logprobs
        loss = loss + beta * (difference.exp() - difference - 1)
    return (loss * mask).sum()


def padded(samples: list[Sample], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sampling log-probabilities and mask [sessions, tokens], advantages [sessions]."""
    longest = max(len(s.tokens.ids) for s in samples)
    old = torch.zeros(len(samples), longest)
    mask = torch.zeros(len(samples), longest, dtype=torch.bool)
    for row, sample in enumerate(samples):
        old[row, : len(sample.tokens.ids)] = torch.tensor(sample.tokens.logprobs)
        mask[row, : len(sample.tokens.ids)] = torch.tensor(sample.tokens.sampled)
    advantages = torch.tensor([s.advantage for s in samples])
    return old.to(device), mask.to(device), advantages.to(device)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Of step ``step`` (from 0): it rises, stays, and falls.

    >>> config = TrainingConfig(steps=10, lr=1.0, warmup_steps=2, decay=0.5)
    >>> [learning_rate(config, step) for step in (0, 1, 5, 9)]
    [0.5, 1.0, 1.0, 0.2]
    """
    rising = (step + 1) / config.warmup_steps if config.warmup_steps else 1.0
    falling = (config.steps - step) / (config.decay * config.steps) if config.decay else 1.0
    return config.lr * min(1.0, rising, falling)


# --- the run ------------------------------------------------------------------------------------------------------


class Trainer:
    """A training run in one folder; call `train`. It resumes from its checkpoint, to the same results."""

    def __init__(self, config: TrainingConfig, folder: Path):
        self.config, self.run = config, Run(folder)
        self.accelerator = accelerator()
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        torch.manual_seed(config.seed)  # LoRA's initial weights; sampling has seeds of its own
        device = str(self.accelerator.device)
        adapter = adapter_config(folder_of(config.base))
        if adapter and config.lora_rank != adapter["r"]:
            raise RunError(
                f"base {config.base} is an adapter of rank {adapter['r']} and lora_rank is {config.lora_rank}: set "
                f"lora_rank={adapter['r']} to train it on, or name its base to begin anew"
            )
        self.policy = Policy.load(config.base, dtype=config.dtype, device=device, trainable=True)
        check_room(self.policy.chat, self.policy.context_tokens, config.size, config.limits, config.schema_given)
        self.reference = None  # with an adapter, trained on or new, it is the model without the adapter
        if config.lora_rank and not adapter:
            self.policy.model = new_adapter(self.policy.model, config.lora_rank)
        elif config.beta and not adapter:
            self.reference = Policy.load(config.base, dtype=config.dtype, device=device).model
        self.params = [p for p in self.policy.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.params, config.lr, (0.9, config.adam_beta2), weight_decay=0.0)
        self.checkpoint = folder / "checkpoint.pt"
        self.step, self.seconds = 0, 0.0
        self.encode = MiniLM() if config.raw_search else None  # loaded when a model first searches by meaning
        self.held_out = held_out_contexts(config.size, config.eval_sessions, config.eval_streams)

    def train(self) -> dict:
        """Train to the end and return the results, which are also written beside the manifest."""
        if self.rank == 0:  # refuses a folder of another run
            self.run.start(asdict(self.config), {"processes": self.world} | model_inputs(self.config.base))
        complete = self.run.complete
        if not complete:
            self._resume()
        self.accelerator.wait_for_everyone()  # all have read the folder before one writes to it
        if complete:
            return self.run.results()
        log = None
        if self.rank == 0:  # before the first checkpoint nothing is kept; later, a row for every step
            resumed = {"resume_step": self.step, "steps": range(self.step + 1)} if self.step else {}
            log = MetricsLog(self.run.metrics_path, **resumed)
        began = time.monotonic() - self.seconds
        if self.step == 0:
            accuracy = self.evaluate()
            if log:
                log.write({"step": 0, "seconds": round(time.monotonic() - began, 1), "eval_accuracy": accuracy})
        silent = {"disable": True} if self.rank else {}
        bar = tqdm(range(self.step, self.config.steps), initial=self.step, total=self.config.steps, **silent)
        for step in bar:
            row = self.one_step(step)
            self.step = step + 1
            last = self.step == self.config.steps
            if self.step % self.config.eval_every == 0 or last:
                row["eval_accuracy"] = self.evaluate()
            self.seconds = time.monotonic() - began
            if log:
                log.write({"step": self.step, "seconds": round(self.seconds, 1), **row})
                bar.set_postfix(reward=f"{row['accuracy']:.2f}")
            if self.step % self.config.save_every == 0 or last:
                self._save()
        results = {"steps": self.step, "seconds": round(self.seconds, 1)}
        if self.rank == 0:
            self.export(self.run.folder / "model")
            results["eval_accuracy"] = [r["eval_accuracy"] for r in log.numbers() if r["eval_accuracy"] is not None]
            self.run.finish(results, device=str(self.accelerator.device), seed=self.config.seed)
        self.accelerator.wait_for_everyone()
        return results

    def one_step(self, step: int) -> dict[str, float]:
        """Rollouts, advantages, updates; what is worth a row of metrics."""
        config = self.config
        start = time.monotonic()
        contexts = training_contexts(config, step)[self.rank :: self.world]
        roll_out(
            self.policy, contexts, config.trajectories, config.limits, (config.seed, step),
            temperature=config.temperature, schema_given=config.schema_given, slots=config.slots,
            encode=self.encode,
        )  # fmt: skip
        samples = samples_of(contexts, config)
        rolled = time.monotonic()
        self.optimizer.param_groups[0]["lr"] = learning_rate(config, step)
        random.Random(f"{config.seed}/{step}/{self.rank}").shuffle(samples)  # both kinds of sessions in every update
        norms = [self._update(samples[part :: config.updates]) for part in range(config.updates)]

        outcomes = [o for c in contexts for i in range(config.trajectories) for o in c.outcomes(i)]
        sessions = [p for c in contexts for t in c.trajectories for p in t.sessions]
        sessions += [p for c in contexts for row in c.answers for p in row]
        numbers = [
            sum(outcomes), len(outcomes),
            sum(p.session.valid_calls for p in sessions), sum(len(p.session.calls) for p in sessions),
            sum(p.session.finished for p in sessions), len(sessions),
            len(samples), sum(p.tokens.written for p in sessions), sum(len(p.tokens.ids) for p in sessions),
        ]  # fmt: skip
        right, asked, valid, calls, finished, total, used, written, read = self._sum(numbers)
        return {
            "accuracy": round(right / asked, 4),
            "valid_calls": round(valid / max(1, calls), 4),
            "finished": round(finished / total, 4),
            "used_sessions": round(used / total, 4),
            "written_tokens": int(written),
            "tokens": int(read),
            "grad_norm": round(sum(norms) / len(norms), 4),
            "rollout_seconds": round(rolled - start, 1),
            "update_seconds": round(time.monotonic() - rolled, 1),
        }

    def _update(self, samples: list[Sample]) -> float:
        """One optimizer step; the norm of the gradient before clipping."""
        config, model, device = self.config, self.policy.model, self.params[0].device
        model.train()
        self.optimizer.zero_grad()
        for group in micro_batches(samples, config.micro_tokens):
            old, mask, advantages = padded(group, device)
            ids, wanted = [s.tokens.ids for s in group], [s.tokens.sampled for s in group]
            logprobs = token_logprobs(model, ids, config.temperature, wanted)
            reference = self._reference_logprobs(ids, wanted) if config.beta else None
            objective(logprobs, old, mask, advantages, config.clip, reference, config.beta).backward()
        count = sum_gradients(self.accelerator, self.params, [float(sum(s.tokens.written for s in samples))])[0]
        if not count:  # every group tied: nothing to learn from this time
            return 0.0
        for p in self.params:
            p.grad /= count
        norm = torch.nn.utils.clip_grad_norm_(self.params, config.max_grad_norm)
        if not norm.isfinite():
            raise RunError(f"the gradient is not finite at step {self.step + 1}: lower lr, or use dtype float32")
        self.optimizer.step()
        return norm.item()

    @torch.no_grad()
    def _reference_logprobs(self, ids: list[list[int]], wanted: list[list[bool]]) -> torch.Tensor:
        if self.reference is not None:
            return token_logprobs(self.reference, ids, self.config.temperature, wanted)
        with self.policy.model.disable_adapter():  # with LoRA the base is the model without its adapter
            return token_logprobs(self.policy.model, ids, self.config.temperature, wanted)

    def evaluate(self) -> float:
        """Exact match on the held-out streams, at the training temperature."""
        config = self.config
        contexts = [Context(c.name, c.stream, c.questions) for c in self.held_out[self.rank :: self.world]]
        roll_out(
            self.policy, contexts, 1, config.limits, (config.seed, "held out"),
            temperature=config.temperature, schema_given=config.schema_given, slots=config.slots,
            encode=self.encode,
        )  # fmt: skip
        outcomes = [o for c in contexts for o in c.outcomes(0)]
        right, asked = self._sum([sum(outcomes), len(outcomes)])
        return round(right / asked, 4)

    def _sum(self, numbers: list[float]) -> list[float]:
        if self.world == 1:
            return numbers
        total = torch.tensor(numbers, dtype=torch.float64, device=self.accelerator.device)
        return self.accelerator.reduce(total, "sum").tolist()

    # checkpoints

    def _save(self) -> None:
        if self.rank > 0:
            return
        weights = {n: p.detach().cpu() for n, p in self._trained().items()}
        state = {
            "weights": weights,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        save_checkpoint(self.checkpoint, state)

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        with reading(self.checkpoint):
            state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
            named = self._trained()
            if set(state["weights"]) != set(named):
                raise ValueError("weights of another model")
            with torch.no_grad():
                for name, weight in state["weights"].items():
                    named[name].copy_(weight)
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return {n: p for n, p in self.policy.model.named_parameters() if p.requires_grad}

    def export(self, folder: Path) -> None:
        """Write the policy (with LoRA: the adapter) as fp16 safetensors, and the tokenizer."""
        model = self.policy.model
        if self.config.lora_rank:  # left alone, peft would look on the hub whether the base has another embedding
            model.save_pretrained(folder, save_embedding_layers=False)
        else:
            tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
            model.save_pretrained(
                folder, state_dict={name: t.half() for name, t in model.state_dict().items() if name not in tied}
            )
        self.policy.tokenizer.save_pretrained(folder)


def train(config: TrainingConfig, folder: Path) -> dict:
    """Run or continue one training run; see `Trainer`. Nothing is written before all is known to fit."""
    with writer(folder):
        return Trainer(config, Path(folder)).train()
