"""Task-Stratified GRPO on nested trajectories (paper section 4, algorithm 1), as one compact loop.

A step: for each of ``contexts`` streams sample N memory trajectories, ask the same M questions from each final
memory, score, and give advantages in separate groups: the N trajectories of a context are one group, the N sessions
of each question another. Every session of memory trajectory i carries A_i, where G_i is the mean reward of its
questions (eq. 4). The objective is the clipped policy gradient over all sampled tokens, averaged over tokens; prompts
and tool results are masked out.

It does not know how sessions are played (`rollout.py`), scored (the data set) or credited (`credit.py`). Any data set
can be trained on, and any agent whose sessions a local model plays.

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

from uma_lib.agents.agent import Kind
from uma_lib.agents.all import KINDS
from uma_lib.agents.readers import RAG
from uma_lib.credit import Credit, CreditOptions, Weighted, one_group, stratified
from uma_lib.distributed import accelerator, sum_gradients, writer
from uma_lib.engines.load import adapter_config, base_of, folder_of, merged_weights, new_adapter
from uma_lib.engines.policy import Policy, token_logprobs
from uma_lib.engines.protocol import Engine
from uma_lib.environment import Limits
from uma_lib.files import RunError, is_address
from uma_lib.ledger import MOST_SESSIONS, SIZES
from uma_lib.ledger.dataset import LedgerQA
from uma_lib.parameters import bounded, unknown
from uma_lib.resume import model_inputs, reading, save_checkpoint
from uma_lib.retrieval import MiniLM
from uma_lib.rollout import Context, check_room, held_out, roll_out
from uma_lib.runs import MetricsLog, Run
from uma_lib.sample import Dataset
from uma_lib.seeds import Key


@dataclass(frozen=True)
class TrainingConfig:
    """One training run. The defaults are the CPU run; ``notebooks/params`` holds the paper's values."""

    # what is trained
    base: str = "data/nano"  # model to start from: a folder or a hub name; an adapter is trained on
    agent: Literal["uma", "concat", "rag", "question_only"] = "uma"  # that the model plays
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
    engine: Literal["local", "vllm"] = "local"  # that plays the sessions; vllm is an extra, for GPUs
    vllm_memory: float = 0.4  # share of the GPU's memory that vllm takes
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
            temperature=(1e-3, 100), lr=(1e-12, math.inf), vllm_memory=(0.01, 0.99),
        )  # fmt: skip
        if not self.lengths or not self.late_lengths:
            raise ValueError("lengths and late_lengths need at least one number of sessions")
        if self.size not in SIZES:
            raise ValueError(unknown("size", self.size, SIZES))

    @property
    def limits(self) -> Limits:
        return Limits(core_tokens=self.core_tokens, session_tokens=self.session_tokens, turn_tokens=self.turn_tokens)


def data_of(config: TrainingConfig) -> LedgerQA:
    """The data set of a configuration: Ledger-QA."""
    return LedgerQA(
        config.size, config.eval_sessions, schema_given=config.schema_given, lengths=config.lengths,
        late_lengths=config.late_lengths, late_from=config.late_from,
    )  # fmt: skip


def training_contexts(config: TrainingConfig, step: int, data: Dataset) -> list[Context]:
    """The samples and questions of a step, from seeds of their own."""
    contexts = []
    for number in range(config.contexts):
        rng = random.Random(f"{config.seed}/{step}/{number}")
        sample = data.draw(rng, step / config.steps)
        questions = rng.sample(sample.questions, min(config.questions, len(sample.questions)))
        contexts.append(Context(f"{step}/{number}", sample.asking(questions)))
    return contexts


def gather(rewards: list[float]) -> tuple[list[list[float]], int]:
    """The rewards of all processes, and which are this one's."""
    return gather_object([rewards]), PartialState().process_index


# --- objective ----------------------------------------------------------------------------------------------------


def micro_batches(samples: list[Weighted], micro_tokens: int) -> Iterator[list[Weighted]]:
    """Samples sorted by length, so that little is padded, in groups of at most ``micro_tokens`` padded tokens."""
    group: list[Weighted] = []
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

    logprobs, old, reference: [sessions, tokens]; mask: True on sampled tokens; advantages: [sessions, tokens] too,
    since each turn has its own.
    """
    ratio = (logprobs - old).exp()
    loss = -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    if reference is not None:
        difference = reference - logprobs
        loss = loss + beta * (difference.exp() - difference - 1)
    return (loss * mask).sum()


def padded(samples: list[Weighted], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sampling log-probabilities, mask and advantages, [sessions, tokens] each."""
    longest = max(len(s.tokens.ids) for s in samples)
    old, advantages = torch.zeros(2, len(samples), longest)
    mask = torch.zeros(len(samples), longest, dtype=torch.bool)
    for row, sample in enumerate(samples):
        old[row, : len(sample.tokens.ids)] = torch.tensor(sample.tokens.logprobs)
        mask[row, : len(sample.tokens.ids)] = torch.tensor(sample.tokens.sampled)
        for (begin, end), advantage in zip(sample.tokens.turns, sample.advantages, strict=True):
            advantages[row, begin:end] = advantage
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

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        data: Dataset | None = None,
        kind: Kind | None = None,
        credit: Credit | None = None,
    ):
        self.config, self.run, self.kind = config, Run(folder), kind or KINDS[config.agent]
        # what was given beside the configuration; a run goes on with the same only
        given = {"data": data and data.name, "kind": kind and kind.__name__, "credit": credit and credit.__name__}
        self.given = {name: what for name, what in given.items() if what}
        self.data = data or data_of(config)
        self.credit = credit or (stratified if config.stratified else one_group)
        if is_address(config.base):
            raise RunError(
                f"base is the address of a server, {config.base}: training needs token ids and weights; name a model"
            )
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
        self.policy = Policy.load(config.base, dtype=config.dtype, device=device, trainable=True, slots=config.slots)
        check_room(self.policy, self.data, config.limits)
        self.reference = None  # with an adapter, trained on or new, it is the model without the adapter
        if config.lora_rank and not adapter:
            self.policy.model = new_adapter(self.policy.model, config.lora_rank)
        elif config.beta and not adapter:
            self.reference = Policy.load(config.base, dtype=config.dtype, device=device).model
        self.params = [p for p in self.policy.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.params, config.lr, (0.9, config.adam_beta2), weight_decay=0.0)
        self.engine: Engine = self.policy
        if config.engine == "vllm":
            from uma_lib.engines.vllm import VLLM

            self.engine = VLLM(
                config.base if not adapter else base_of(folder_of(config.base), adapter), dtype=config.dtype,
                context_tokens=config.session_tokens, memory=config.vllm_memory,
            )  # fmt: skip
        self.checkpoint = folder / "checkpoint.pt"
        self.step, self.seconds = 0, 0.0
        self._refreshed = -1  # step whose weights an engine of its own has
        # its weights are loaded when somebody first searches by meaning
        self.encode = MiniLM() if config.raw_search or self.kind is RAG else None
        self.held_out = held_out(self.data, config.eval_streams)

    def train(self) -> dict:
        """Train to the end and return the results, which are also written beside the manifest."""
        if self.rank == 0:  # refuses a folder of another run
            inputs = {"processes": self.world} | model_inputs(self.config.base) | self.given
            self.run.start(asdict(self.config), inputs)
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
        contexts = training_contexts(config, step, self.data)[self.rank :: self.world]
        self._roll_out(contexts, config.trajectories, (config.seed, step))
        samples = self.credit(contexts, CreditOptions(config.tool_weight, config.std_floor, gather))
        rolled = time.monotonic()
        self.optimizer.param_groups[0]["lr"] = learning_rate(config, step)
        random.Random(f"{config.seed}/{step}/{self.rank}").shuffle(samples)  # both kinds of sessions in every update
        norms = [self._update(samples[part :: config.updates]) for part in range(config.updates)]

        played = [trajectory for context in contexts for trajectory in context.trajectories]
        outcomes = [outcome for trajectory in played for outcome in trajectory.outcomes if outcome is not None]
        traces = [trace for trajectory in played for trace in trajectory.traces if trace.tokens]
        numbers = [
            sum(outcomes), len(outcomes),
            sum(trace.valid_calls for trace in traces), sum(len(trace.calls) for trace in traces),
            sum(trace.finished for trace in traces), len(traces),
            len(samples), sum(trace.written for trace in traces), sum(len(trace.tokens.ids) for trace in traces),
        ]  # fmt: skip
        right, asked, valid, calls, finished, total, used, written, read = self._sum(numbers)
        return {
            "accuracy": round(right / max(1, asked), 4),
            "valid_calls": round(valid / max(1, calls), 4),
            "finished": round(finished / max(1, total), 4),
            "used_sessions": round(used / max(1, total), 4),
            "written_tokens": int(written),
            "tokens": int(read),
            "grad_norm": round(sum(norms) / len(norms), 4),
            "rollout_seconds": round(rolled - start, 1),
            "update_seconds": round(time.monotonic() - rolled, 1),
        }

    def _update(self, samples: list[Weighted]) -> float:
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
        """The first metric on the held-out samples, at the training temperature."""
        contexts = [Context(c.name, c.sample) for c in self.held_out[self.rank :: self.world]]
        self._roll_out(contexts, 1, (self.config.seed, "held out"))
        outcomes = [o for c in contexts for o in c.trajectories[0].outcomes if o is not None]
        right, asked = self._sum([sum(outcomes), len(outcomes)])
        return round(right / max(1, asked), 4)

    def _roll_out(self, contexts: list[Context], trajectories: int, key: Key) -> None:
        config = self.config
        if self.engine is not self.policy and self._refreshed != self.step:
            with merged_weights(self.policy.model) as weights:
                self.engine.refresh(weights)
            self._refreshed = self.step
        roll_out(
            self.engine, contexts, trajectories, config.limits, key, data=self.data, kind=self.kind,
            temperature=config.temperature, encode=self.encode, search=config.raw_search,
        )  # fmt: skip

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


def train(
    config: TrainingConfig,
    folder: str | Path,
    data: Dataset | None = None,
    kind: Kind | None = None,
    credit: Credit | None = None,
) -> dict:
    """Run or continue one training run; see `Trainer`. Nothing is written before all is known to fit.

    data: what is trained on, by default Ledger-QA as ``config`` describes it. kind: the agents that the model plays, by
    default those that ``config.agent`` names. credit: rewards to advantages, by default `stratified` or, without
    ``config.stratified``, `one_group`.
    """
    with writer(folder):
        return Trainer(config, Path(folder), data, kind, credit).train()
