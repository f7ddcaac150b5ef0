"""The base model: how it is made, and what is shipped."""

import json
import random
from collections import defaultdict
from decimal import Decimal
from itertools import islice

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from uma_lib.engines.chat import ChatFormat
from uma_lib.engines.policy import Policy
from uma_lib.environment import Limits
from uma_lib.files import RunError
from uma_lib.ledger import Stream
from uma_lib.ledger.dataset import LedgerQA
from uma_lib.ledger.language import said_scene
from uma_lib.ledger.schema import true_memory
from uma_lib.nano.base import BaseConfig, Muon, batch, loss_sum, make_base, orthogonal, schedule, transcript
from uma_lib.nano.demonstrations import SHARES, demonstrations
from uma_lib.nano.script import Demonstrator, Habits
from uma_lib.paths import BASE
from uma_lib.rollout import held_out
from uma_lib.scoring import score

from .conftest import TINY


def test_demonstrations_are_seeded_and_of_every_kind():
    one, two = (list(islice(demonstrations("7"), 200)) for _ in range(2))
    assert [e.turns for e in one] == [e.turns for e in two]
    assert {e.kind for e in one} == set(SHARES)
    assert one != list(islice(demonstrations("8"), 200))


def test_true_memory_is_what_perfect_habits_keep():
    for index in range(10):
        stream = Stream("small", "test", 8, index)
        kept = Demonstrator(Habits.perfect(), random.Random(0)).keep(stream)
        true = true_memory(stream)
        assert dict(kept.bank.items()) == dict(true.bank.items()) and kept.core.text == true.core.text


def test_true_memory_holds_scenes_where_they_are_asked_for():
    stream = Stream("standard", "test", 8, 0, revisions=0.3)
    held = dict(true_memory(stream).bank.items())
    for q in stream.questions(5, kinds=["scene_date", "entry_amount"]):
        said = [part for key, value in held.items() if key.startswith(q.start) for part in value.split(" + ")]
        found = [Decimal(part.split(" ", 1)[0]) for part in said if part.split(" ", 1)[1] == said_scene(q.scene)]
        assert sum(found) == Decimal(q.gold.values[0])


def test_tokenizer_keeps_digits_and_dates(tiny_tokenizer):
    shipped = AutoTokenizer.from_pretrained(BASE)
    pieces = shipped.convert_ids_to_tokens(shipped.encode("on 2024-05-01 it was 1234.50"))
    assert [p for p in pieces if p.isdigit() or p.startswith("-")] == [
        "2024",
        "-05",
        "-01",
        "1",
        "2",
        "3",
        "4",
        "5",
        "0",
    ]
    for text in ("é 12 \n\n  x", "<tool_call>", 'a"b\\c', "2024-13-99 99"):
        assert tiny_tokenizer.decode(tiny_tokenizer.encode(text)) == text


def test_transcripts_mask_what_the_assistant_writes(tiny_tokenizer):
    chat = ChatFormat(tiny_tokenizer)
    for example in islice(demonstrations("0"), 30):
        ids, mask = transcript(example, chat)
        said = chat.tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])
        assert said == "".join(text + "<|im_end|>" for text, _ in example.turns)


def test_muon_orthogonalises():
    torch.manual_seed(0)
    for shape in ((8, 8), (16, 6), (6, 16)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape), steps=10))
        assert values.min() > 0.5 and values.max() < 1.5
    weight = torch.nn.Parameter(torch.randn(6, 4))
    before = weight.detach().clone()
    (weight**2).sum().backward()
    Muon([weight], lr=0.1).step()
    assert (weight**2).sum() < (before**2).sum()


def test_loss_ignores_padding_and_prompts(tiny_policy):
    chat = tiny_policy.chat
    pairs = [transcript(e, chat) for e in islice(demonstrations("0"), 5)]
    together, tokens = loss_sum(tiny_policy.model, pairs)
    apart = [loss_sum(tiny_policy.model, [pair]) for pair in pairs]
    assert tokens == sum(n for _, n in apart) == sum(sum(mask) for _, mask in pairs)
    assert together.item() == pytest.approx(sum(loss.item() for loss, _ in apart), rel=1e-4)
    micro = batch(TINY, chat, 0, 1, 0)
    assert sum(len(ids) for part in micro for ids, _ in part) >= TINY.batch_tokens
    assert schedule(TINY, 1.0) == 0.0 and schedule(TINY, 0.5) == 1.0


def test_a_base_is_made_resumed_and_described(tmp_path, monkeypatch):
    config = BaseConfig(
        **{
            **TINY.__dict__,
            "tokens": 4096,
            "batch_tokens": 1024,
            "save_minutes": 0.0,
            "card_streams": 1,
            "card_sessions": 1,
            "card_tokens": 1024,
        }
    )
    make_base(config, tmp_path / "straight")
    measures = json.loads((tmp_path / "straight" / "model" / "competence.json").read_text())
    assert measures["sampled"]["accuracy"]["all"]["n"] == 8
    assert "Qwen3" in (tmp_path / "straight" / "model" / "README.md").read_text()

    import uma_lib.nano.base

    def killed(*arguments, **named):
        if arguments[-1] == 2:
            raise KeyboardInterrupt
        return batch(*arguments, **named)

    monkeypatch.setattr(uma_lib.nano.base, "batch", killed)
    with pytest.raises(KeyboardInterrupt):
        make_base(config, tmp_path / "resumed")
    monkeypatch.undo()
    make_base(config, tmp_path / "resumed")
    one, two = (Policy.load(tmp_path / name / "model").model.state_dict() for name in ("straight", "resumed"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_shipped_base_is_an_ordinary_small_model():
    weights = BASE / "model.safetensors"
    assert weights.stat().st_size < 8e6 and (BASE / "README.md").exists()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(BASE), AutoTokenizer.from_pretrained(BASE)
    assert model.config.model_type == "qwen3" and len(tokenizer) == model.config.vocab_size
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    assert text == "<|im_start|>user\nHello<|im_end|>\n"


def test_the_shipped_base_has_every_right_habit_to_start_from():
    card = json.loads((BASE / "competence.json").read_text())
    assert 0.2 < card["demonstrator"] < 0.5
    measures = card["sampled"]
    for name, one in measures["habits"].items():
        assert one["share"] > 0.1, name
    # from a true memory it is right at least half as often as the script that it imitates
    right = defaultdict(list)
    for seed in range(5):
        agent = Demonstrator(Habits(), random.Random(seed))
        for context in held_out(LedgerQA("small", 10), 30):
            memory = true_memory(context.sample.truth.stream)
            for question in context.sample.truth.questions.values():
                right[question.kind].append(score(agent.ask(memory, question) or "", question.gold))
    for kind, one in measures["answers_from_truth"].items():
        assert one["share"] > 0.5 * sum(right[kind]) / len(right[kind]), kind


def test_a_damaged_base_is_one_clear_line(tmp_path):
    for file in BASE.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes((BASE / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(RunError, match="cannot load the model"):
        Policy.load(tmp_path)
    assert Limits().session_tokens == 1024
