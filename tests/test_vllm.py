"""The engine vllm on a stand-in for the package, which runs the same model through transformers."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
import torch

from tests.contracts import check_engine
from tests.test_contracts import greedy
from uma_lib.engines import load
from uma_lib.engines.local import Read
from uma_lib.engines.policy import Policy
from uma_lib.engines.protocol import Ask
from uma_lib.files import RunError
from uma_lib.parameters import check
from uma_lib.paths import BASE
from uma_lib.training import Trainer, TrainingConfig


class SamplingParams(SimpleNamespace):
    KNOWN = {"temperature", "top_p", "top_k", "min_p", "seed", "logprobs", "max_tokens", "stop_token_ids", "detokenize"}

    def __init__(self, **values):
        assert set(values) == self.KNOWN and values["top_p"] == 1.0 and values["max_tokens"] >= 1
        super().__init__(**values)


class LLM:
    """What of vLLM's class is used here."""

    made: list["LLM"] = []

    def __init__(self, model, dtype, max_model_len, gpu_memory_utilization, enable_prefix_caching, trust_remote_code,
                 logprobs_mode):  # fmt: skip
        assert not trust_remote_code and logprobs_mode == "processed_logprobs"
        self.policy = Policy.load(model, device="cpu")
        config = SimpleNamespace(max_model_len=max_model_len or self.policy.context_tokens)
        runner = SimpleNamespace(model=SimpleNamespace(load_weights=self.load_weights))
        worker = SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner))
        self.llm_engine = SimpleNamespace(model_config=config, model_executor=worker)
        self.resets, self.loaded = 0, []
        LLM.made.append(self)

    def get_tokenizer(self):
        return self.policy.tokenizer

    def load_weights(self, weights):
        weights = dict(weights)
        own = dict(self.policy.model.named_parameters())
        assert set(weights) == set(own)
        self.loaded.append({name: weight.clone() for name, weight in weights.items()})
        with torch.no_grad():
            for name, weight in weights.items():
                own[name].copy_(weight)

    def reset_prefix_cache(self):
        self.resets += 1

    def generate(self, prompts, settings, use_tqdm):
        def one(ids, wanted):
            turn = yield Read(ids, True, wanted.max_tokens, wanted.seed)
            return turn

        (temperature,) = {wanted.temperature for wanted in settings}
        rollouts = (one(p["prompt_token_ids"], wanted) for p, wanted in zip(prompts, settings, strict=True))
        answers = []
        for turn in self.policy.sample(rollouts, temperature=temperature):
            logprobs = [{i: SimpleNamespace(logprob=p)} for i, p in zip(turn.ids, turn.logprobs, strict=True)]
            answers.append(SimpleNamespace(outputs=[SimpleNamespace(token_ids=turn.ids, logprobs=logprobs)]))
        return answers


@pytest.fixture()
def vllm(monkeypatch):
    module = ModuleType("vllm")
    module.__spec__ = ModuleSpec("vllm", None)  # other packages look whether it is there
    module.LLM, module.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", module)
    LLM.made.clear()
    from uma_lib.engines.vllm import VLLM

    return VLLM


def test_it_keeps_the_contract(vllm):
    check_engine(vllm("data/nano"), greedy(Policy.load(BASE, device="cpu")))


def test_sessions_go_on_over_rounds_as_in_the_local_engine(vllm):
    def session(number):
        texts = []
        for turn in range(1 + number % 3):
            message = {"role": "tool", "content": "ok"} if turn else {"role": "user", "content": f"n{number}"}
            said = yield Ask([message], None, turn == 0, 8 + number, seed=number)
            texts.append((said.text, said.tokens.ids[:], said.read, said.written))
        return texts

    found = [e.generate(map(session, range(6)), temperature=0.0) for e in (vllm("data/nano"), Policy.load(BASE))]
    assert found[0] == found[1]


def test_a_context_that_is_full_ends_turns(vllm):
    engine = vllm("data/nano", context_tokens=30)

    def session():
        turns = []
        for turn in range(5):
            asked = [{"role": "tool", "content": "ok"} if turn else {"role": "user", "content": "x"}]
            turns.append((yield Ask(asked, None, turn == 0, 8, seed=1)))
        return [(turn.written, turn.stopped) for turn in turns]

    (found,) = engine.generate([session()], temperature=1.0)
    assert len(found) == 5 and found[-1][0] == found[-2][0] and not found[-1][1]  # nothing more was written


def test_merged_weights_are_those_of_the_adapted_model():
    policy = Policy.load(BASE, device="cpu")
    plain = {name: weight.clone() for name, weight in policy.model.named_parameters()}
    adapted = load.new_adapter(policy.model, 2)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        wanted = adapted(ids).logits
        with load.merged_weights(adapted) as weights:
            merged = {name: weight.clone() for name, weight in weights}
        assert set(merged) == set(plain) and any((merged[name] != plain[name]).any() for name in plain)
        other = Policy.load(BASE, device="cpu").model
        other.load_state_dict(merged, strict=False)
        assert torch.allclose(other(ids).logits, wanted, atol=1e-4)
        assert torch.allclose(adapted(ids).logits, wanted, atol=1e-5)  # and it is as before


@pytest.mark.parametrize("rank", [0, 2])
def test_training_refreshes_its_weights_after_each_update(vllm, tmp_path, rank):
    config = check(TrainingConfig, {
        "engine": "vllm", "steps": 2, "contexts": 1, "trajectories": 4, "questions": 3, "lengths": [1],
        "late_lengths": [1], "eval_every": 2, "eval_streams": 1, "eval_sessions": 1, "lora_rank": rank,
    })  # fmt: skip
    trainer = Trainer(config, tmp_path)
    results = trainer.train()
    (llm,) = LLM.made
    assert llm.resets == len(llm.loaded) == 3  # before the first step, and after each of two
    with load.merged_weights(trainer.policy.model) as weights:
        for name, weight in weights:
            assert torch.allclose(llm.loaded[-1][name], weight, atol=1e-6), name
    assert len(results["eval_accuracy"]) == 2 and trainer.engine is not trainer.policy


def test_without_the_package_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(RunError, match=r"pip install 'uma-lib\[vllm\]'"):
        Trainer(check(TrainingConfig, {"engine": "vllm"}), tmp_path)


def test_a_server_cannot_be_trained_at(tmp_path):
    with pytest.raises(RunError, match="base is the address of a server.*needs token ids"):
        Trainer(check(TrainingConfig, {"base": "http://localhost:8000/v1"}), tmp_path)
    assert not list(tmp_path.iterdir())
