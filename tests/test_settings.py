"""Settings that cannot work are refused in one line, before anything is loaded or written."""

import pytest

from uma_lib.__main__ import parser, run, settings
from uma_lib.evaluation import EvaluationConfig
from uma_lib.files import RunError
from uma_lib.nano.base import BaseConfig
from uma_lib.nano.habits import AnalysisConfig
from uma_lib.parameters import check, load_parameters
from uma_lib.revisions import RevisionsConfig
from uma_lib.training import TrainingConfig, learning_rate, train

SHORT = ["contexts=2", "trajectories=4", "lengths=[1]", "eval_streams=1", "eval_sessions=1", "questions=2"]
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
        ("slots", 0), ("slots", 10**9), ("seed", -1), ("seed", 2**64), ("steps", 10**400), ("lr", 10**400),
        ("lora_rank", 10**9), ("lengths", [2, 10**400]), ("warmup_steps", INF), ("clip", NAN), ("std_floor", INF),
        ("beta", NAN), ("max_grad_norm", NAN), ("tool_weight", INF), ("adam_beta2", -0.1), ("late_from", -0.5),
        ("decay", 1.5), ("temperature", INF), ("dtype", "int8"), ("dtype", None), ("size", ""), ("base", 3),
        ("seed", True),
        ("lengths", [2, 10**8]), ("late_lengths", [10**8]), ("eval_sessions", 10**8),
        ("lengths", 3), ("lengths", ["2"]), ("stratified", "yes"), ("updates", 1.0), ("lr", "fast"),
    ]],
    *[(BaseConfig, {name: value}, name) for name, value in [
        ("warmup", 0.0), ("warmup", NAN), ("decay", 0.0), ("heads", 5), ("heads", 0), ("key_value_heads", 3),
        ("width", 0), ("width", 190), ("layers", 0), ("tokens", 0), ("tokens", 100), ("batch_tokens", 0),
        ("muon_lr", INF), ("adam_lr", -1.0), ("size", "tiny"), ("card_streams", 0), ("save_minutes", -1.0),
        ("save_minutes", NAN), ("decay", 2.0), ("warmup", 1.5), ("vocabulary", 100), ("longest", 0), ("longest", 4096),
        ("card_tokens", 4096), ("context", 512), ("context", 0), ("key_value_heads", 0), ("seed", -1),
        ("feed_forward", 0), ("card_sessions", 10**8),
    ]],
    *[(AnalysisConfig, {name: value}, name) for name, value in [
        ("size", "tiny"), ("sessions", 0), ("streams", 0), ("temperature", NAN), ("temperature", -0.5),
        ("transcripts", -1), ("core_tokens", 0), ("dtype", "float99"), ("seed", 10**30), ("turn_tokens", 0),
        ("session_tokens", 0), ("before", 1), ("sessions", 10**8),
    ]],
    *[(config, {"agents": ["oracle"], name: value}, name) for config, name, value in [
        (EvaluationConfig, "temperature", NAN), (EvaluationConfig, "temperature", INF), (EvaluationConfig, "seed", -1),
        (EvaluationConfig, "session_tokens", 0), (EvaluationConfig, "turn_tokens", -1),
        (EvaluationConfig, "core_tokens", 0), (EvaluationConfig, "revisions", NAN), (EvaluationConfig, "per_kind", 0),
        (RevisionsConfig, "rates", [NAN]), (RevisionsConfig, "rates", []), (RevisionsConfig, "audited", 0),
        (RevisionsConfig, "audited", 10**30),
        (RevisionsConfig, "temperature", NAN), (RevisionsConfig, "rates", [0.1, 0.1]),
        (RevisionsConfig, "rates", [2.0]),
        (RevisionsConfig, "revisions", 0.1), (EvaluationConfig, "per_kind", 10**6), (EvaluationConfig, "size", "tiny"),
        (EvaluationConfig, "split", "tests"), (EvaluationConfig, "streams", [60]), (EvaluationConfig, "slots", 0),
        (EvaluationConfig, "horizons", [2, 5, 0, 20, 50]), (EvaluationConfig, "horizons", [2, 2, 5, 10, 20]),
        (EvaluationConfig, "horizons", [2, 5, 10, 20, 10**8]),
        (EvaluationConfig, "horizons", []), (EvaluationConfig, "streams", [0] * 5),
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


@pytest.mark.parametrize(
    "values",
    [{"session_tokens": 60}, {"size": "hard"}, {"session_tokens": 900, "size": "standard"}, {"core_tokens": 2000}],
)
def test_prompts_that_do_not_fit_are_found_before_anything_is_written(values, tmp_path):
    with pytest.raises(RunError, match="does not fit session_tokens=.*raise session_tokens"):
        train(check(TrainingConfig, values), tmp_path / "run")
    assert not any((tmp_path / "run").glob("*"))


@pytest.mark.parametrize(
    "command, values, said",
    [
        ("train", ["session_tokens=4096"], "session_tokens=4096 is more than the 2048 tokens that the model can read"),
        ("train", ["base=data/none"], "no model folder at 'data/none'"),
        ("train", ["base=data/results"], "has no config.json"),
        ("train", ["lr=1.0e+15", "steps=1", *SHORT], "not finite"),
        ("base", ["longest=2"], "no demonstration has less than"),
        ("base", ["card_tokens=150"], "does not fit session_tokens=150"),
        ("evaluate", ["agents=[uma_base]", "size=hard"], "does not fit session_tokens"),
        ("evaluate", ["agents=[concat]", "session_tokens=10"], "does not fit session_tokens"),
        ("evaluate", ["trained=[data/nano, data/gone]"], "no model folder at 'data/gone'"),
        ("revisions", ["agents=[uma_base]", "session_tokens=3000"], "session_tokens=3000 is more than the 2048"),
        ("analyse", ["after=data/gone"], "no model folder at 'data/gone'"),
        ("analyse", ["session_tokens=100"], "does not fit session_tokens=100"),
        ("analyse", ["size=hard"], "does not fit session_tokens"),
    ],
)
def test_what_cannot_work_is_found_before_anything_is_written(command, values, said, tmp_path):
    pairs = [word for value in values for word in ("--set", value)]
    with pytest.raises(RunError, match=said) as caught:
        run(parser().parse_args([command, "--out", str(tmp_path / "run"), *pairs]))
    assert "\n" not in str(caught.value)
    if "lr=1.0e+15" not in values:  # which shows only when it is done
        assert not any((tmp_path / "run").glob("*"))


UNREADABLE = [
    "[1", "{", "}", '"abc', "'abc", "a: b: c", "!!python/object:os.system x", "*a", "@x", "`x", "%x", "\x01", "- [",
    "2024-13-45", "{[1]: 2}", "? [a]\n: b: c", "{a: 1, a: 2}", "[" * 5000, "\t- a", "[&a 1, *a]", "!own 1",
    "!!python/name:os.system", "!!int text", "a: 1\n\tb: 2", "1\n--- 2", "{<<: 1}", "\udcff",
    "[&a [x, x], &b [*a, *a]]",
]  # fmt: skip


@pytest.mark.parametrize("text", UNREADABLE)
def test_a_value_that_is_no_yaml_is_refused(text, tmp_path):
    with pytest.raises(RunError, match="--set lr: .*: not valid YAML") as caught:
        settings(parser().parse_args(["train", "--set", f"lr={text}"]))
    assert "\n" not in str(caught.value)
    (tmp_path / "p.yaml").write_bytes(f"lr: {text}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match="p.yaml: not (valid YAML|UTF-8 text)"):
        load_parameters(tmp_path / "p.yaml")


def test_a_name_given_twice_is_refused(tmp_path):
    with pytest.raises(RunError, match="--set lr is given twice"):
        settings(parser().parse_args(["train", "--set", "lr=1.0", "--set", "lr=2.0"]))
    (tmp_path / "p.yaml").write_text("steps: 1\nlr: 1.0\nsteps: 2\n")
    with pytest.raises(RunError, match="'steps' stands there twice"):
        load_parameters(tmp_path / "p.yaml")
