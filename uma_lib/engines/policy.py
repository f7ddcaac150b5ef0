"""The policy: a causal language model and its chat format; it samples turns and scores tokens.

Tokens in, tokens out: a session is a list of ids that is only ever appended to. What was sampled is never
decoded and encoded again, so the log-probabilities belong to exactly the tokens trained on. This module
knows nothing about memory, questions or rewards.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedTokenizerBase

from uma_lib.engines import load as models
from uma_lib.engines.chat import ChatFormat, as_tokens
from uma_lib.engines.local import Rollout, Slots, drive
from uma_lib.engines.protocol import Dialogue, Message, Progress
from uma_lib.files import RunError

T = TypeVar("T")


class Policy:
    """A causal language model with its tokenizer. `model` may be replaced or trained between calls.

    Any `transformers` model with plain causal attention in every layer works (Qwen3, Llama, SmolLM2...).
    """

    trainable = True

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        context_tokens: int | None = None,
        slots: int = 64,
        template: dict[str, Any] | None = None,
    ):
        config = model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"}:
            raise RunError(f"layers of kind {sorted(kinds)} are not supported: use a model with full attention")
        self.model = model
        self.tokenizer = tokenizer
        self.chat = ChatFormat(tokenizer, template)
        context = context_tokens or getattr(config, "max_position_embeddings", None)
        if not isinstance(context, int) or context < 1:
            raise RunError(f"max_position_embeddings is {context} in the model's configuration: give context_tokens")
        self.context_tokens = context  # of a session, at most
        self.slots = slots  # sessions decoded together

    @classmethod
    def load(
        cls,
        path_or_name: str | Path,
        *,
        dtype: str = "float32",
        gguf_file: str | None = None,
        device: str | None = None,
        context_tokens: int | None = None,
        trainable: bool = False,
        slots: int = 64,
        template: dict[str, Any] | None = None,
    ) -> "Policy":
        """Load a model folder, or a model of the hub by its name ("Qwen/Qwen3-4B-Instruct-2507").

        `gguf_file` names a GGUF file in the folder (needs the `gguf` package); `device` defaults to the GPU
        if there is one. An adapter's folder is loaded with its base; `trainable` lets the adapter be trained on.
        `template`: options of the chat template, such as ``{"enable_thinking": False}``.
        Raises `RunError` with one line for a missing or damaged model. No pickle and no code of a model is loaded.
        """
        model, tokenizer = models.load(path_or_name, dtype, gguf_file, trainable)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if device == "cpu" and model.num_parameters() < 2e7:
            torch.set_num_threads(1)  # more threads wait for each other longer than they compute
        return cls(model.to(device).eval(), tokenizer, context_tokens, slots, template)

    def generate(self, dialogues: Iterable[Dialogue[T]], *, temperature: float, progress: Progress = None) -> list[T]:
        """Drive dialogues in messages to their end; see `protocol.Engine` and `sample`."""
        rollouts = (as_tokens(dialogue, self.chat) for dialogue in dialogues)
        return self.sample(rollouts, temperature=temperature, progress=progress)

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        return self.chat.count(text)

    def size(self, messages: list[Message], tools: list[dict] | None) -> int:
        """How many tokens the opening of a session has."""
        return len(self.chat.open(messages, tools))

    def sample(
        self,
        rollouts: Iterable[Rollout[T]],
        *,
        temperature: float,
        slots: int | None = None,
        progress: Progress = None,
    ) -> list[T]:
        """Drive rollouts in tokens to their end, up to `slots` at a time (default: its own), and return
        what they return, in order.

        temperature: 1.0 samples from the model itself; 0 takes the likeliest token. There is no top-k or
        top-p, so what is reported is what was sampled from.
        progress: called with (rollouts finished, tokens sampled so far) whenever a rollout ends.

        A turn that would outgrow `context_tokens` is cut there; without room for one token the rollout is
        sent `Sampled([], [], False)` and its context stays as it was.

        Dropout is off during the call. A rollout's exception ends the call. Raises ValueError for a negative
        temperature, for no slots, and for a `Read` that has nothing to read or to sample.
        """
        slots = self.slots if slots is None else slots
        if temperature < 0 or slots < 1:
            raise ValueError(f"temperature {temperature} must not be negative and slots {slots} not below 1")
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                engine = Slots(self.model, slots, self.chat.end_ids, temperature, self.context_tokens)
                return drive(engine, iter(rollouts), slots, progress)
        finally:
            self.model.train(training)


def token_logprobs(
    model: torch.nn.Module,
    sequences: Sequence[Sequence[int]],
    temperature: float = 1.0,
    wanted: Sequence[Sequence[bool]] | None = None,
) -> torch.Tensor:
    """Log-probability of every token given those before it, by one plain forward pass; differentiable.

    sequences: token ids, at least 2 in the longest; padded on the right here (causal attention never looks
    there, so no mask is needed).
    wanted: which tokens matter, in the shape of `sequences`; columns that nobody wants skip the vocabulary
    projection.

    Returns [sequences, longest] in float32: entry [i, t] belongs to sequences[i][t]; the first token, padding
    and unwanted tokens are 0.
    """
    from trl.trainer.utils import selective_log_softmax  # here, because importing trl takes seconds

    device = next(model.parameters()).device
    longest = max(map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    keep = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.as_tensor(sequence)
        keep[row, : len(sequence)] = True if wanted is None else torch.as_tensor(wanted[row]).bool()
    keep[:, 0] = False
    columns = keep.any(dim=0).nonzero()[:, 0].to(device)  # each is predicted one column to the left
    ids, keep = ids.to(device), keep.to(device)
    logits = model(input_ids=ids[:, :-1], use_cache=False, logits_to_keep=columns - 1).logits.float()
    found = selective_log_softmax(logits, ids[:, columns], temperature)
    result = torch.zeros(ids.shape, dtype=torch.float32, device=device)
    return result.index_copy(1, columns, found) * keep
