"""Training against its equations: groups, masks, log-probabilities, several processes, kill and resume."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from uma_lib.agents.uma import UMA
from uma_lib.credit import CreditOptions, Weighted, group_advantages, one_group, rewards_of, stratified
from uma_lib.engines.policy import Policy, token_logprobs
from uma_lib.engines.protocol import Tokens
from uma_lib.environment import Limits
from uma_lib.files import RunError
from uma_lib.ledger.dataset import LedgerQA
from uma_lib.parameters import check
from uma_lib.paths import BASE, REPO
from uma_lib.rollout import held_out, roll_out
from uma_lib.training import (
    TrainingConfig,
    data_of,
    micro_batches,
    objective,
    padded,
    train,
    training_contexts,
)

LIMITS = Limits(core_tokens=128)
# two streams of one or two sessions: a step takes about a second
SMALL = {
    "steps": 4, "contexts": 2, "trajectories": 4, "questions": 3, "lengths": [1, 2], "late_lengths": [2],
    "eval_every": 2, "eval_streams": 2, "eval_sessions": 2, "save_every": 1, "micro_tokens": 1024,
}  # fmt: skip


@pytest.fixture(scope="module")
def base():
    return Policy.load(BASE, device="cpu")


@pytest.fixture(scope="module")
def rolled(base):
    config = check(TrainingConfig, SMALL | {"contexts": 3, "trajectories": 6})
    data = data_of(config)
    contexts = training_contexts(config, 0, data)
    roll_out(base, contexts, 6, LIMITS, (0, 0), data=data, kind=UMA)
    return contexts


def test_training_streams_come_from_seeds_alone():
    config = check(TrainingConfig, SMALL)
    data = data_of(config)
    one, two = training_contexts(config, 1, data), training_contexts(config, 1, data)
    assert [c.sample.id for c in one] == [c.sample.id for c in two]
    assert [c.sample.id for c in one] != [c.sample.id for c in training_contexts(config, 2, data)]
    late = training_contexts(config, 3, data)
    assert {len(c.sample.chunks) for c in late} == {2}
    names = {c.sample.id for c in held_out(data, 5)}
    assert all("/validation/" in name for name in names) and len(names) == 5


def test_nested_rollouts_have_the_same_questions_for_every_memory(rolled):
    for context in rolled:
        assert len(context.trajectories) == 6
        for trajectory in context.trajectories:
            assert len(trajectory.sessions) == len(context.sample.chunks)
            assert len(trajectory.answers) == len(trajectory.scores) == len(context.sample.questions)
            for trace, question in zip(trajectory.answers, context.sample.questions, strict=True):
                assert question.text in trace.messages[1]["content"]


def test_stratified_advantages_follow_the_equations(rolled):
    """Written again from equations 4 and 5: G_i is the mean over questions, groups are per context and per question."""
    expected = {}
    for c in rolled:
        r = np.array(
            [
                [
                    outcome + 0.5 * (p.valid_calls / len(p.calls) if p.calls else 1.0)
                    for p, outcome in zip(c.trajectories[i].answers, c.trajectories[i].outcomes, strict=True)
                ]
                for i in range(6)
            ]
        )  # [N, M]
        own = []
        for t in c.trajectories:
            valid, calls = (
                sum(x) for x in zip(*[(p.valid_calls, len(p.calls)) for p in t.sessions], strict=True)
            )
            own.append(0.5 * (valid / calls if calls else 1.0))
        g = r.mean(axis=1) + np.array(own)

        def normal(x):
            return np.zeros_like(x) if np.ptp(x) < 1e-9 else (x - x.mean()) / x.std()

        for i, a in enumerate(normal(g)):
            for p in c.trajectories[i].sessions:
                expected[id(p.tokens)] = a
        for j in range(r.shape[1]):
            for i, a in enumerate(normal(r[:, j])):
                expected[id(c.trajectories[i].answers[j].tokens)] = a
    samples = stratified(rolled, CreditOptions(tool_weight=0.5, std_floor=0.0))
    assert all(len(s.advantages) == len(s.tokens.turns) > 0 and len(set(s.advantages)) == 1 for s in samples)
    found = {id(s.tokens): s.advantages[0] for s in samples}
    assert any(abs(a) > 0.1 for a in expected.values())
    for key, a in expected.items():
        assert found.get(key, 0.0) == pytest.approx(a, abs=1e-9)


def test_one_group_for_all_is_the_ablation(rolled):
    options = CreditOptions(std_floor=0.0)
    rewards = [r for _, r, _ in rewards_of(rolled, options.tool_weight)]
    expected = group_advantages(rewards, ["all"] * len(rewards))
    weights = [len(sessions) for _, _, sessions in rewards_of(rolled, options.tool_weight)]
    found = one_group(rolled, options)
    assert len(found) == sum(w for w, a in zip(weights, expected, strict=True) if a)
    assert sorted({round(s.advantages[0], 9) for s in found}) == sorted({round(a, 9) for a in expected if a})


def test_sampled_and_recomputed_logprobs_agree(base, rolled):
    played = [trace.tokens for c in rolled for t in c.trajectories for trace in t.traces]
    assert len(played) > 50
    with torch.no_grad():
        for tokens in played:
            again = token_logprobs(base.model, [tokens.ids], 1.0, [tokens.sampled])[0].tolist()
            assert again == pytest.approx(tokens.logprobs, abs=2e-4)
            assert all(p < 0 or s for p, s in zip(tokens.logprobs, tokens.sampled, strict=True) if s)


def test_masked_tokens_get_no_gradient(tiny_policy):
    rng = np.random.default_rng(0)
    samples = []
    for length in (5, 9, 14):
        sampled = [False, *(rng.random(length - 1) < 0.5)]
        logprobs = [-1.5 if s else 0.0 for s in sampled]
        ids = rng.integers(3, 300, length).tolist()
        turns = [(k, k + 1) for k, s in enumerate(sampled) if s]
        advantages = rng.normal(size=len(turns)).tolist()
        samples.append(Weighted(Tokens(ids, [bool(s) for s in sampled], logprobs, turns), advantages))
    old, mask, advantages = padded(samples, torch.device("cpu"))
    logprobs = torch.randn(old.shape).requires_grad_()
    objective(logprobs, old, mask, advantages, clip=10.0, reference=torch.randn(old.shape), beta=0.1).backward()
    assert (logprobs.grad[~mask] == 0).all() and (logprobs.grad[mask] != 0).any()
    # and through the model: a prompt token after the last sampled one changes nothing
    ids, wanted = [s.tokens.ids for s in samples], [s.tokens.sampled for s in samples]
    found = token_logprobs(tiny_policy.model, ids, 1.0, wanted)
    assert (found[~mask] == 0).all()


def test_each_turn_has_its_own_advantage():
    tokens = Tokens()
    for read, wrote in ((3, 2), (1, 4)):
        tokens.read([7] * read)
        tokens.wrote([8] * wrote, [-1.0] * wrote)
    _, mask, advantages = padded([Weighted(tokens, [0.5, -2.0])], torch.device("cpu"))
    assert advantages[0].tolist() == [0, 0, 0, 0.5, 0.5, 0, -2, -2, -2, -2] and mask[0].tolist() == tokens.sampled


def test_objective_is_the_clipped_surrogate():
    logprobs, old = torch.log(torch.tensor([[0.5, 0.1, 0.9]])), torch.log(torch.tensor([[0.25, 0.2, 0.9]]))
    mask = torch.tensor([[True, True, False]])
    up = objective(logprobs, old, mask, torch.full((1, 3), 2.0), clip=0.2)
    assert up.item() == pytest.approx(-(min(2 * 2, 1.2 * 2) + min(0.5 * 2, 0.8 * 2)))
    down = objective(logprobs, old, mask, torch.full((1, 3), -1.0), clip=0.2)
    assert down.item() == pytest.approx(-(min(-2.0, -1.2) + min(-0.5, -0.8)))
    kl = objective(old, old, mask, torch.zeros(1, 3), 0.2, reference=old, beta=1.0)
    assert kl.item() == 0.0


def test_micro_batches_keep_every_sample_and_the_bound():
    rng = np.random.default_rng(0)
    samples = [Weighted(Tokens([1] * int(n), [True] * int(n), [0.0] * int(n)), [1.0]) for n in rng.integers(2, 400, 60)]
    groups = list(micro_batches(samples, 1000))
    assert sorted(id(s) for g in groups for s in g) == sorted(id(s) for s in samples)
    assert all(len(g) * max(len(s.tokens.ids) for s in g) <= 1000 or len(g) == 1 for g in groups)


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": 1.0},
        {"steps": "10"},
        {"steps": 1e5},
        {"lengths": "[1, 2]"},
        {"steps": 0},
        {"lengths": []},
    ],
)
def test_unknown_and_mistyped_parameters_are_refused(values):
    with pytest.raises(RunError):
        check(TrainingConfig, values)


def metrics(folder):
    """Rows without what depends on the clock."""
    with open(folder / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


def command(folder, processes=1):
    values = [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()]
    return [
        sys.executable,
        "-m",
        "uma_lib",
        "train",
        "--out",
        str(folder),
        "--processes",
        str(processes),
        *values,
    ]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The real entry point, uninterrupted, in one process."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    subprocess.run(command(folder), check=True, cwd=REPO, env=ENVIRONMENT, capture_output=True)
    return folder


def test_a_run_leaves_metrics_model_and_manifest(straight):
    rows = metrics(straight)
    assert [int(r["step"]) for r in rows] == [0, 1, 2, 3, 4]
    assert [bool(r["eval_accuracy"]) for r in rows] == [True, False, True, False, True]
    assert any(float(r["grad_norm"]) > 0 for r in rows[1:])
    manifest = json.loads((straight / "manifest.json").read_text())
    assert manifest["seed"] == 0 and manifest["versions"]["torch"]
    trained, base = Policy.load(straight / "model"), Policy.load(BASE)
    moved = [(a - b).abs().max() for a, b in zip(trained.model.parameters(), base.model.parameters(), strict=True)]
    assert max(moved) > 1e-4


def killed_and_continued(folder, processes):
    """Start a run, kill all its processes after some steps, and start it again."""
    process = subprocess.Popen(
        command(folder, processes), cwd=REPO, env=ENVIRONMENT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "checkpoint.pt").exists() and len(metrics(folder)) >= 3:
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "manifest.json").exists(), "the run ended before it could be killed"
    subprocess.run(command(folder, processes), check=True, cwd=REPO, env=ENVIRONMENT, capture_output=True)


def same_run(one, two):
    weights = (Policy.load(folder / "model").model.state_dict() for folder in (one, two))
    a, b = weights
    return metrics(one) == metrics(two) and all(torch.equal(a[name], b[name]) for name in a)


def test_a_killed_run_continues_to_the_same_metrics(straight, tmp_path):
    killed_and_continued(tmp_path / "run", processes=1)
    assert same_run(straight, tmp_path / "run")


def test_two_processes_agree_with_one_and_resume(straight, tmp_path):
    subprocess.run(command(tmp_path / "two", 2), check=True, cwd=REPO, env=ENVIRONMENT, capture_output=True)
    one, two = metrics(straight), metrics(tmp_path / "two")
    # the first step samples from the same weights: the same tokens, whoever plays which context
    for name in ("accuracy", "written_tokens", "tokens", "used_sessions", "valid_calls"):
        assert one[1][name] == two[1][name]
    assert one[0]["eval_accuracy"] == two[0]["eval_accuracy"]
    killed_and_continued(tmp_path / "killed", processes=2)
    assert same_run(tmp_path / "two", tmp_path / "killed")


def test_a_damaged_checkpoint_or_base_is_one_clear_line(straight, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(b"not a checkpoint")
    result = subprocess.run(command(folder), cwd=REPO, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 1 and "delete it" in result.stderr.strip().splitlines()[-1]
    other = [*command(tmp_path / "other"), "--set=base=data/no-such-model"]
    result = subprocess.run(other, cwd=REPO, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 1 and "no-such-model" in result.stderr.strip().splitlines()[-1]
    result = subprocess.run(
        [*command(straight), "--set=lr=0.1"], cwd=REPO, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert result.returncode == 1 and "lr" in result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("agent", ["concat", "rag"])
def test_readers_are_trained_alike(agent, tmp_path):
    config = check(TrainingConfig, SMALL | {"agent": agent, "steps": 1, "eval_every": 1, "std_floor": 0.0})
    results = train(config, tmp_path / "run")
    (before, row) = metrics(tmp_path / "run")
    assert len(results["eval_accuracy"]) == 2 and int(row["written_tokens"]) > 0 and before["step"] == "0"
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_lora_trains_the_adapter_only(tmp_path):
    config = check(
        TrainingConfig, SMALL | {"base": str(BASE), "lora_rank": 4, "beta": 0.01, "steps": 1, "eval_every": 1}
    )
    train(config, tmp_path / "run")
    names = {p.name for p in (tmp_path / "run" / "model").iterdir()}
    assert "adapter_model.safetensors" in names and "model.safetensors" not in names


def test_held_out_evaluation_does_not_depend_on_batching(base):
    scores, data = [], LedgerQA("small", 2)
    for slots in (1, 16):
        contexts, base.slots = held_out(data, 2), slots
        roll_out(base, contexts, 1, LIMITS, (0, "held out"), data=data, kind=UMA)
        scores.append([[trace.answer for trace in c.trajectories[0].answers] for c in contexts])
    assert scores[0] == scores[1]
