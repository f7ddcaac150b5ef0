"""vLLM as an engine: token ids in and out, weights refreshed after an update. Needs ``pip install uma-lib[vllm]``.

The package is imported when a `VLLM` is made, not before. Sessions go on in rounds: the live ones are decoded together
by vLLM's own scheduler, and read again from its prefix cache in the next round. Log-probabilities are those of vLLM's
kernels, which differ from the trainer's by rounding; the clipped ratio of the objective starts from them.

It is written for the interface of vLLM 0.11 and tested against a stand-in for the package; it has not been run on a GPU
yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch

from uma_lib.engines.chat import ChatFormat, as_tokens
from uma_lib.engines.load import folder_of
from uma_lib.engines.local import Read, Sampled
from uma_lib.engines.protocol import Dialogue, Message, Progress
from uma_lib.files import RunError

T = TypeVar("T")


class VLLM:
    """A model in vLLM, in this process.

    model: a folder or a hub name. context_tokens: of a session, at most. memory: share of the GPU's memory; what is
    left is the trainer's. template: options of the chat template.
    """

    trainable = True

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "bfloat16",
        context_tokens: int | None = None,
        memory: float = 0.4,
        template: dict[str, Any] | None = None,
    ):
        try:
            import vllm
        except ImportError as error:
            raise RunError("engine=vllm needs a package: pip install 'uma-lib[vllm]', or set engine=local") from error
        self._vllm = vllm
        self.llm = vllm.LLM(
            model=str(folder_of(model)), dtype=dtype, max_model_len=context_tokens, gpu_memory_utilization=memory,
            enable_prefix_caching=True, trust_remote_code=False,
            logprobs_mode="processed_logprobs",  # of the distribution that is sampled from, temperature included
        )  # fmt: skip
        self.context_tokens = self.llm.llm_engine.model_config.max_model_len
        self.chat = ChatFormat(self.llm.get_tokenizer(), template)

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        return self.chat.count(text)

    def size(self, messages: list[Message], tools: list[dict] | None) -> int:
        """How many tokens the opening of a session has."""
        return len(self.chat.open(messages, tools))

    def generate(self, dialogues: Iterable[Dialogue[T]], *, temperature: float, progress: Progress = None) -> list[T]:
        """Drive all dialogues to their end; see `protocol.Engine`."""
        rollouts = [as_tokens(dialogue, self.chat) for dialogue in dialogues]
        results: list[Any] = [None] * len(rollouts)
        contexts: list[list[int]] = [[] for _ in rollouts]
        turns: dict[int, Sampled | None] = dict.fromkeys(range(len(rollouts)))  # what the live ones are sent next
        finished = sampled = 0
        while turns:
            asked: dict[int, Read] = {}
            for number, turn in turns.items():
                try:
                    read = rollouts[number].send(turn)
                    while len(contexts[number]) * (not read.fresh) + len(read.tokens) >= self.context_tokens:
                        read = rollouts[number].send(Sampled([], [], False))  # no room for a token
                except StopIteration as end:
                    results[number] = end.value
                    finished += 1
                    if progress:
                        progress(finished, sampled)
                    continue
                contexts[number] = read.tokens if read.fresh else contexts[number] + read.tokens
                asked[number] = read
            made = self._sample([contexts[number] for number in asked], list(asked.values()), temperature)
            turns = dict(zip(asked, made, strict=True))
            for number, turn in turns.items():
                contexts[number] = contexts[number] + turn.ids
                sampled += len(turn.ids)
        return results

    def _sample(self, contexts: list[list[int]], reads: list[Read], temperature: float) -> list[Sampled]:
        if not contexts:
            return []
        settings = [
            self._vllm.SamplingParams(
                temperature=temperature, top_p=1.0, top_k=0, min_p=0.0, seed=read.seed % 2**31, logprobs=0,
                max_tokens=min(read.max_new, self.context_tokens - len(context)),
                stop_token_ids=sorted(self.chat.end_ids), detokenize=False,
            )
            for read, context in zip(reads, contexts, strict=True)
        ]  # fmt: skip
        prompts = [{"prompt_token_ids": context} for context in contexts]
        found = []
        for answer in self.llm.generate(prompts, settings, use_tqdm=False):
            one = answer.outputs[0]
            ids = list(one.token_ids)
            logprobs = [place[token].logprob for token, place in zip(ids, one.logprobs, strict=True)]
            found.append(Sampled(ids, logprobs, bool(ids) and ids[-1] in self.chat.end_ids))
        return found

    def refresh(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Take over the weights of the trained model (`load.merged_weights`); what the old ones have cached is gone."""
        worker = self.llm.llm_engine.model_executor.driver_worker
        worker.model_runner.model.load_weights(weights)
        self.llm.reset_prefix_cache()
