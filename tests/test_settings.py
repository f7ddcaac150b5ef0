"""Settings that cannot work are refused in one line, before anything is loaded or written."""

import pytest

from uma_lib.__main__ import parser, settings
from uma_lib.analysis import AnalysisConfig
from uma_lib.base import BaseConfig
from uma_lib.evaluation import EvaluationConfig
from uma_lib.revisions import RevisionsConfig
from uma_lib.runs import RunError, check, load_parameters
from uma_lib.training import TrainingConfig, learning_rate, train

NAN, INF = float("nan"), float("inf")
REFUSED = [
    *[(TrainingConfig, {name: value}, name) for name, value in [
        ("size", "tiny"), ("warmup_steps", -1), ("eval_streams", 0), ("eval_sessions", 0), ("temperature", -1.0),
        ("temperature", NAN), ("temperature", 0.0), ("lengths", [0]), ("lengths", []), ("late_lengths", [2, -1]),
        ("lr", INF), ("lr", NAN), ("lr", 0.0), ("lr", -1e-4), ("trajectories", 1), ("trajectories", 0),
        ("micro_tokens", 0), ("max_grad_norm", -1.0), ("max_grad_norm", 0.0), ("adam_beta2", 1.5),
        ("adam_beta2", 1.0),
        ("adam_beta2", NAN), ("core_tokens", -5), ("core_tokens", 0), ("turn_tokens", 0), ("session_tokens", -1),
        ("dtype", "float99"), ("lora_rank", -1), ("late_from", 2.0), ("late_from", NAN), ("decay", -0.1),
        ("decay", NAN),
        ("std_floor", -0.1), ("tool_weight", -1.0), ("tool_weight", NAN), ("clip", 0.0), ("clip", -0.2), ("beta", -1.0),
        ("steps", 0), ("contexts", 0), ("questions", 0), ("updates", 0), ("eval_every", 0), ("save_every", 0),
        ("slots", 0), ("seed", -1),
    ]],
    *[(BaseConfig, {name: value}, name) for name, value in [
        ("warmup", 0.0), ("warmup", NAN), ("decay", 0.0), ("heads", 5), ("heads", 0), ("key_value_heads", 3),
        ("width", 0), ("width", 190), ("layers", 0), ("tokens", 0), ("tokens", 100), ("batch_tokens", 0),
        ("muon_lr", INF), ("adam_lr", -1.0), ("size", "tiny"), ("card_streams", 0), ("save_minutes", -1.0),
    ]],
    *[(AnalysisConfig, {name: value}, name) for name, value in [
        ("size", "tiny"), ("sessions", 0), ("streams", 0), ("temperature", NAN), ("temperature", -0.5),
        ("transcripts", -1), ("core_tokens", 0), ("dtype", "float99"),
    ]],
    *[(config, {"agents": ["oracle"], name: value}, name) for config, name, value in [
        (EvaluationConfig, "temperature", NAN), (EvaluationConfig, "temperature", INF), (EvaluationConfig, "seed", -1),
        (EvaluationConfig, "session_tokens", 0), (EvaluationConfig, "turn_tokens", -1),
        (EvaluationConfig, "core_tokens", 0), (EvaluationConfig, "revisions", NAN), (EvaluationConfig, "per_kind", 0),
        (RevisionsConfig, "rates", [NAN]), (RevisionsConfig, "rates", []), (RevisionsConfig, "audited", 0),
        (RevisionsConfig, "temperature", NAN),
    ]],
]  # fmt: skip


@pytest.mark.parametrize("config, values, message", REFUSED)
def test_a_setting_that_cannot_work_is_refused(config, values, message):
    with pytest.raises(RunError, match=message) as caught:
        check(config, values)
    assert "\n" not in str(caught.value)


def test_edges_that_work():
    config = check(TrainingConfig, {"warmup_steps": 0, "decay": 0.0, "steps": 1, "trajectories": 2, "lr": 1})
    assert learning_rate(config, 0) == 1.0


@pytest.mark.parametrize("values", [{"session_tokens": 60}, {"size": "hard"}, {"core_tokens": 2000}])
def test_prompts_that_do_not_fit_are_found_before_anything_is_written(values, tmp_path):
    with pytest.raises(RunError, match="does not fit session_tokens=.*raise session_tokens"):
        train(check(TrainingConfig, values), tmp_path / "run")
    assert not any((tmp_path / "run").glob("*"))


UNREADABLE = [
    "[1", "{", "}", '"abc', "'abc", "a: b: c", "!!python/object:os.system x", "*a", "@x", "`x", "%x", "\x01", "- [",
    "2024-13-45", "{[1]: 2}", "? [a]\n: b: c", "{a: 1, a: 2}", "[" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", UNREADABLE)
def test_a_value_that_is_no_yaml_is_refused(text, tmp_path):
    with pytest.raises(RunError, match="--set lr: .*: not valid YAML") as caught:
        settings(parser().parse_args(["train", "--set", f"lr={text}"]))
    assert "\n" not in str(caught.value)
    (tmp_path / "p.yaml").write_text(f"lr: {text}\n")
    with pytest.raises(RunError, match="p.yaml: not valid YAML"):
        load_parameters(tmp_path / "p.yaml")


def test_a_name_given_twice_is_refused(tmp_path):
    with pytest.raises(RunError, match="--set lr is given twice"):
        settings(parser().parse_args(["train", "--set", "lr=1.0", "--set", "lr=2.0"]))
    (tmp_path / "p.yaml").write_text("steps: 1\nlr: 1.0\nsteps: 2\n")
    with pytest.raises(RunError, match="'steps' stands there twice"):
        load_parameters(tmp_path / "p.yaml")
