"""Makes the shipped base model `nano`, which plays the part of the paper's instruct model on a CPU.

A small Qwen3 with a byte-level BPE tokenizer is trained from scratch on demonstrations of mixed quality
(`demonstrations.py`): it knows the protocol, reads sessions and calculates, but has the demonstrator's lossy habits.
Reinforcement learning starts from it. ``python -m uma_lib base`` makes it; two processes use two cores.

The tokenizer keeps every digit a token of its own, and year, ``-month`` and ``-day`` of a date one token each. Merges
may cross spaces, so that the JSON around a call and the constant prompts cost few tokens.

The optimizer is Muon for the matrices of the layers and AdamW for the rest. torch's own Muon orthogonalises in
bfloat16, which is slow on a CPU without bfloat16 units; hence the few lines here.
"""

from __future__ import annotations

import math
import random
import re
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from uma_lib.distributed import accelerator, sum_gradients, writer
from uma_lib.engines.chat import ChatFormat
from uma_lib.engines.policy import Policy
from uma_lib.files import RunError, atomic_write_json, atomic_write_text
from uma_lib.ledger import MOST_SESSIONS, SIZES
from uma_lib.nano.demonstrations import Example, demonstrations
from uma_lib.nano.habits import AnalysisConfig, data_of, describe
from uma_lib.nano.script import Demonstrator, Habits
from uma_lib.parameters import bounded, unknown
from uma_lib.paths import PACKAGE
from uma_lib.resume import reading, save_checkpoint
from uma_lib.rollout import check_room, held_out
from uma_lib.runs import MetricsLog, Run
from uma_lib.scoring import score

END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True)
class BaseConfig:
    """How the base is made."""

    # the model
    size: str = "small"  # of the Ledger-QA sessions in the demonstrations
    seed: int = 0  # of demonstrations and first weights
    vocabulary: int = 1536  # tokens of the tokenizer
    width: int = 192  # of embeddings and between layers
    layers: int = 4  # of attention and feed-forward
    heads: int = 4  # of attention
    key_value_heads: int = 2  # shared by several heads of attention
    feed_forward: int = 512  # width within a layer
    context: int = 2048  # positions
    # the warm start
    tokens: int = 20_000_000  # of demonstrations, in all
    batch_tokens: int = 6144  # an optimizer step, over all processes
    longest: int = 1000  # tokens of a demonstration; longer ones are left out
    muon_lr: float = 0.02  # of the layers' matrices, for an orthogonal update
    adam_lr: float = 0.004  # of embeddings and norms
    warmup: float = 0.02  # share of the steps
    decay: float = 0.4  # share of the steps in which the rate falls to zero, linearly
    # the model card
    card_streams: int = 30  # held-out streams that its competence is measured on
    card_sessions: int = 10  # of each of these streams
    card_tokens: int = 1024  # budget of a session there
    save_minutes: float = 3.0  # minutes between checkpoints

    def __post_init__(self) -> None:
        least_one = (1, math.inf)
        bounded(
            self, seed=(0, math.inf), vocabulary=(300, math.inf), width=least_one, layers=least_one, heads=least_one,
            key_value_heads=least_one, feed_forward=least_one, context=(64, math.inf), tokens=least_one,
            batch_tokens=least_one, longest=least_one, muon_lr=(1e-12, math.inf), adam_lr=(1e-12, math.inf),
            warmup=(1e-9, 1), decay=(1e-9, 1), card_streams=least_one, card_sessions=(1, MOST_SESSIONS),
            card_tokens=least_one, save_minutes=(0, math.inf),
        )  # fmt: skip
        if self.size not in SIZES:
            raise ValueError(unknown("size", self.size, SIZES))
        if self.width % (2 * self.heads) or self.heads % self.key_value_heads:
            raise ValueError(
                f"width {self.width} must be a multiple of twice heads ({self.heads}), and heads one of "
                f"key_value_heads ({self.key_value_heads})"
            )
        if max(self.longest, self.card_tokens) > self.context:
            raise ValueError(
                f"longest ({self.longest}) and card_tokens ({self.card_tokens}) must not be more than context "
                f"({self.context})"
            )
        if self.tokens < self.batch_tokens:
            raise ValueError(f"tokens ({self.tokens}) is less than batch_tokens ({self.batch_tokens}): not one step")


# --- tokenizer ----------------------------------------------------------------------------------------------------


def transcript(example: Example, chat: ChatFormat) -> tuple[list[int], list[int]]:
    """Token ids of a demonstration and a mask that is 1 on what the assistant writes."""
    ids = chat.open(example.messages, example.tools)
    mask = [0] * len(ids)
    for number, (text, results) in enumerate(example.turns):
        said = chat.tokenizer.encode(text, add_special_tokens=False) + [chat.end_id]
        ids, mask = ids + said, mask + [1] * len(said)
        if number + 1 < len(example.turns):
            heard = chat.results(results, stopped=True)
            ids, mask = ids + heard, mask + [0] * len(heard)
    return ids, mask


def make_tokenizer(config: BaseConfig, examples: int = 6000) -> PreTrainedTokenizerFast:
    """Train the tokenizer on the protocol's own text."""
    tokenizer = Tokenizer(models.BPE())
    dates = r"20\d\d(?=-\d\d-\d\d)|-\d\d(?=-\d\d)|(?<=-\d\d)-\d\d"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(dates + r"|\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=[END, START, STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=64,
        show_progress=False,
    )

    def wrapped() -> PreTrainedTokenizerFast:
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            eos_token=STOP,
            pad_token=END,
            extra_special_tokens=[START],
            chat_template=(PACKAGE / "nano" / "chat_template.jinja").read_text(),
            model_max_length=config.context,
            clean_up_tokenization_spaces=False,
        )

    template = wrapped()  # renders text; it cannot encode yet
    texts = (_text(example, template) for example in islice(demonstrations("tokenizer", config.size), examples))
    # merges must not reach across what is encoded apart: special tokens, and the prompt from what the assistant writes
    pieces = (piece for text in texts for piece in re.split(r"<\|\w+\|>|(?<=assistant\n)", text))
    tokenizer.train_from_iterator(pieces, trainer)
    return wrapped()


def _text(example: Example, tokenizer: PreTrainedTokenizerFast) -> str:
    messages = list(example.messages)
    for text, results in example.turns:
        messages.append({"role": "assistant", "content": text})
        messages += [{"role": "tool", "content": result} for result in results]
    return tokenizer.apply_chat_template(messages, tools=example.tools, tokenize=False)


# --- model and optimizer ------------------------------------------------------------------------------------------


def make_model(config: BaseConfig, vocabulary: int) -> Qwen3ForCausalLM:
    """An untrained `nano`."""
    torch.manual_seed(config.seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_value_heads,
            head_dim=config.width // config.heads,
            intermediate_size=config.feed_forward,
            max_position_embeddings=config.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=2,  # STOP
            pad_token_id=0,  # END
        )
    )


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised by five Newton-Schulz steps (Jordan et al., 2024), in float32."""

    def __init__(self, params, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                buffer = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(buffer, group["momentum"]))
                p.add_(update, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Approximately U V^T of the singular value decomposition U S V^T of a [m, n] matrix."""
    a, b, c = 3.4445, -4.7750, 2.0315  # quintic that brings every singular value near 1
    x = matrix / (matrix.norm() + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


# --- warm start ---------------------------------------------------------------------------------------------------


def batch(
    config: BaseConfig, chat: ChatFormat, rank: int, world: int, step: int
) -> list[list[tuple[list[int], list[int]]]]:
    """Micro-batches of one step for one process, drawn from a seed of their own so that a run can resume anywhere."""
    share = config.batch_tokens // world
    drawn, count = [], 0
    for example in demonstrations(f"{config.seed}/{rank}/{step}", config.size):
        ids, mask = transcript(example, chat)
        if len(ids) <= config.longest:
            drawn.append((ids, mask))
            count += len(ids)
        if count >= share:
            break
    drawn.sort(key=lambda pair: len(pair[0]))
    micro, room = [[]], 2048  # small micro-batches stay in a core's cache
    for pair in drawn:
        if micro[-1] and (len(micro[-1]) + 1) * len(pair[0]) > room:
            micro.append([])
        micro[-1].append(pair)
    return micro


def loss_sum(model: Qwen3ForCausalLM, micro: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, int]:
    """Cross-entropy summed over what the assistant writes, and how many tokens that is."""
    longest = max(len(ids) for ids, _ in micro)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in micro])
    mask = torch.tensor([mask + [0] * (longest - len(mask)) for _, mask in micro], dtype=torch.bool)[:, 1:]
    # padding stands on the right, where a causal model does not look
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[mask]
    loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][mask], reduction="sum")
    return loss, int(mask.sum())


def schedule(config: BaseConfig, progress: float) -> float:
    """Factor of the learning rates at ``progress`` in 0..1: warm up, stay, fall."""
    return min(1.0, progress / config.warmup, (1 - progress) / config.decay)


def make_base(config: BaseConfig, folder: Path) -> None:
    """Train the base and write model, tokenizer and metrics into ``folder``; resumes from its checkpoint."""
    tokenizer = make_tokenizer(config)  # deterministic, so every process has the same
    check_fit(config, Policy(make_model(config, len(tokenizer)), tokenizer))
    with writer(folder):
        _make_base(config, Path(folder), tokenizer)


def check_fit(config: BaseConfig, policy: Policy) -> None:
    """Refuse, before anything is made, budgets that no demonstration fits or not all sessions of the model card."""
    examples = islice(demonstrations(f"{config.seed}/0/0", config.size), 100)
    shortest = min(len(transcript(example, policy.chat)[0]) for example in examples)
    if shortest > config.longest:
        raise RunError(f"longest is {config.longest}, but no demonstration has less than {shortest} tokens: raise it")
    settings = card_settings(config, 1.0)
    check_room(policy, data_of(settings), settings.limits)


def card_settings(config: BaseConfig, temperature: float) -> AnalysisConfig:
    """What the model card measures."""
    return AnalysisConfig(
        size=config.size, sessions=config.card_sessions, streams=config.card_streams,
        session_tokens=config.card_tokens, temperature=temperature, transcripts=0,
    )  # fmt: skip


def _make_base(config: BaseConfig, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    together, run = accelerator(), Run(folder)
    torch.set_num_threads(1)  # processes scale better than threads for a model this small
    rank, world = together.process_index, together.num_processes
    if rank == 0:  # refuses a folder of another run
        run.start(asdict(config), {"processes": world})
    complete = run.complete
    together.wait_for_everyone()  # all have read it before one writes
    if complete:
        return
    chat = ChatFormat(tokenizer)
    model = make_model(config, len(tokenizer)).train()
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        Muon(matrices, config.muon_lr),
        torch.optim.AdamW(others, config.adam_lr, (0.9, 0.95), weight_decay=0.0),
    ]
    rates = [config.muon_lr, config.adam_lr]
    params = list(model.parameters())

    steps = config.tokens // config.batch_tokens
    checkpoint, first, spent = folder / "checkpoint.pt", 0, 0.0
    recent: list[tuple[float, int]] = []  # losses and numbers of tokens since the last row of metrics
    if checkpoint.exists():
        with reading(checkpoint):
            state = torch.load(checkpoint, weights_only=True)
            model.load_state_dict(state["model"])
            for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            first, spent, recent = int(state["step"]), float(state["seconds"]), state["recent"]
    together.wait_for_everyone()
    log = None
    if rank == 0:  # before the first checkpoint nothing is kept
        rows = [step for step in range(1, first + 1) if has_row(step, steps)]
        log = MetricsLog(folder / "metrics.csv", **({"resume_step": first, "steps": rows} if first else {}))

    began, saved_at = time.monotonic() - spent, time.monotonic()
    for step in tqdm(range(first, steps), initial=first, total=steps, disable=rank > 0, mininterval=10):
        factor = schedule(config, (step + 1) / steps)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = rate * factor
        total, count = 0.0, 0
        for micro in batch(config, chat, rank, world, step):
            loss, tokens = loss_sum(model, micro)
            loss.backward()
            total, count = total + loss.item(), count + tokens
        total, count = sum_gradients(together, params, [total, float(count)])
        for p in params:
            p.grad /= count
        for optimizer in optimizers:
            optimizer.step()

        if rank > 0:
            continue
        recent.append((total, count))
        spent = time.monotonic() - began
        if has_row(step + 1, steps):
            mean = sum(t for t, _ in recent) / sum(n for _, n in recent)
            if not math.isfinite(mean):
                raise RunError(f"the loss is not finite at step {step + 1}: lower muon_lr and adam_lr")
            log.write({"step": step + 1, "tokens": (step + 1) * config.batch_tokens, "loss": round(mean, 5),
                       "seconds": round(spent, 1)})  # fmt: skip
            recent.clear()
        if time.monotonic() - saved_at > 60 * config.save_minutes or step + 1 == steps:
            saved_at = time.monotonic()
            save_checkpoint(checkpoint, {
                "model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers],
                "step": step + 1, "seconds": spent, "recent": recent,
            })  # fmt: skip
            save(model, tokenizer, folder / "model")
    if rank == 0:
        save(model, tokenizer, folder / "model")  # again: a kill may have come in the middle of the last time
        finish(config, folder, spent)
    together.wait_for_everyone()
    together.end_training()


def has_row(step: int, steps: int) -> bool:
    """Whether there is a row of metrics after ``step`` of ``steps`` steps."""
    return step % 25 == 0 or step == steps


def finish(config: BaseConfig, folder: Path, seconds: float) -> None:
    """Measure the base, write its model card, and complete the run."""
    policy = Policy.load(folder / "model")
    measures = {
        "parameters": sum(p.numel() for p in policy.model.parameters()),
        "hours": round(seconds / 3600, 2),
        "loss": MetricsLog(folder / "metrics.csv", resume_step=10**9).numbers()[-1]["loss"],
        "demonstrator": demonstrator_accuracy(config),
    }
    for name, temperature in (("sampled", 1.0), ("greedy", 0.0)):
        measures[name], _ = describe(policy, card_settings(config, temperature))
    atomic_write_json(folder / "model" / "competence.json", measures)
    atomic_write_text(folder / "model" / "README.md", card(config, measures))
    Run(folder).finish(measures, device="cpu", seed=config.seed)


def demonstrator_accuracy(config: BaseConfig) -> float:
    """Exact match of the demonstrator on the streams that the base is measured on."""
    agent = Demonstrator(Habits(), random.Random(0))
    scores = []
    data = data_of(card_settings(config, 1.0))
    for context in held_out(data, config.card_streams):
        truth = context.sample.truth
        memory = agent.keep(truth.stream)
        scores += [score(agent.ask(memory, q) or "", q.gold) for q in truth.questions.values()]
    return sum(scores) / len(scores)


def card(config: BaseConfig, measures: dict) -> str:
    """The model card, from measured values only."""

    def table(title: str, key: str) -> list[str]:
        rows = [f"| {title} | sampled (temperature 1) | greedy | n |", "|---|---|---|---|"]
        for name, one in measures["sampled"][key].items():
            greedy = measures["greedy"][key].get(name, one)
            rows.append(f"| {name} | {one['share']:.2f} | {greedy['share']:.2f} | {one['n']} |")
        return [*rows, ""]

    return "\n".join(
        [
            "---", "license: apache-2.0", "library_name: transformers", "pipeline_tag: text-generation", "---", "",
            "# nano", "",
            f"A Qwen3 of {measures['parameters']:,} parameters ({config.layers} layers, width {config.width}), trained "
            f"from scratch on {config.tokens:,} tokens of Ledger-QA demonstrations (size `{config.size}`, split "
            f"`demonstrations`, seed {config.seed}) in {measures['hours']} hours on two cores; final loss "
            f"{measures['loss']:.4f} on what the assistant writes. Made by `python -m uma_lib base --processes 2`.",
            "",
            "It plays the part of an instruct model on a CPU: it knows the protocol and calculates, and it has the "
            "lossy habits of the demonstrator, which reinforcement learning has to unlearn.", "",
            f"Measured on {config.card_streams} held-out streams of {config.card_sessions} sessions, one "
            f"question of each kind. The demonstrator itself: {measures['demonstrator']:.2f}.", "",
            *table("exact match, end to end", "accuracy"),
            *table("exact match from a true memory", "answers_from_truth"),
            *table("habit: share of right variants", "habits"),
        ]
    )  # fmt: skip


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write fp16 safetensors and the tokenizer, loadable with `AutoModelForCausalLM` and `AutoTokenizer`."""
    half = {name: tensor.half() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    model.save_pretrained(folder, state_dict=half)
    tokenizer.save_pretrained(folder)
