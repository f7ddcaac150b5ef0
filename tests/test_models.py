"""Models as files: names that are found from anywhere, adapters, and damage that is refused in one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.model_hub import ModelHub
from uma_lib.engines import load as models
from uma_lib.engines.chat import ChatFormat
from uma_lib.engines.policy import Policy, token_logprobs
from uma_lib.files import RunError, model_folder, read_json
from uma_lib.parameters import check
from uma_lib.paths import BASE, REPO
from uma_lib.training import TrainingConfig, train


@pytest.fixture()
def hub():
    server = ModelHub()
    yield server
    server.stop()


IDS = [[5, 17, 30, 8, 12]]


def one_line(caught: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    return str(caught.value)


# --- damage ---------------------------------------------------------------------------------------------


def fields(file: str = "config.json", **values):
    """Change fields of a JSON file; None deletes one."""

    def change(folder: Path) -> None:
        held = json.loads((folder / file).read_text()) | values
        (folder / file).write_text(json.dumps({name: value for name, value in held.items() if value is not None}))

    return change


def content(file: str, data: bytes):
    return lambda folder: (folder / file).write_bytes(data)


def gone(*files: str):
    return lambda folder: [(folder / file).unlink() for file in files]


def weights(change, file: str = "model.safetensors"):
    def changed(folder: Path) -> None:
        held = load_file(folder / file)
        change(held)
        save_file(held, folder / file, metadata={"format": "pt"})

    return changed


def filled(name: str, value: float):
    return weights(lambda held: held[name].view(-1)[:1].fill_(value))


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def shards(folder: Path) -> None:
    os.rename(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def one_token_more(folder: Path) -> None:
    held = json.loads((folder / "tokenizer.json").read_text())
    held["added_tokens"].append(held["added_tokens"][0] | {"id": 1536, "content": "<more>"})
    (folder / "tokenizer.json").write_text(json.dumps(held))


CODE = {"AutoConfig": "configuration.C", "AutoModelForCausalLM": "modeling.M"}
DAMAGED = {
    "a list": (content("config.json", b"[]"), "config.json needs the field model_type"),
    "null": (content("config.json", b"null"), "config.json needs the field model_type"),
    "half a file": (content("config.json", b'{"model_type": '), "config.json: not valid JSON"),
    "no text": (content("config.json", b"\xff\xfe\x00"), "config.json: not UTF-8"),
    "no type": (fields(model_type=None), "config.json needs the field model_type"),
    "type a number": (fields(model_type=3), "config.json needs the field model_type"),
    "type unknown": (fields(model_type="qwen99"), "model type `qwen99`"),
    "no decoder": (fields(model_type="t5"), "Unrecognized configuration class"),
    "another architecture": (fields(model_type="bert"), "it lacks weights: bert"),
    "code of its own": (fields(model_type="own", auto_map=CODE), "contains custom code"),
    "no configuration": (gone("config.json"), "has no config.json"),
    "no weights": (gone("model.safetensors"), "has no weights"),
    "weights pickled": (pickled, "pickled, which may run code"),
    "weights empty": (content("model.safetensors", b""), "safetensors are damaged"),
    "weights junk": (content("model.safetensors", b"junk" * 99), "safetensors are damaged"),
    "a shard missing": (shards, "model-00002-of-00002.safetensors"),
    "nan": (filled("model.norm.weight", float("nan")), "not finite numbers in model.norm.weight"),
    "infinite": (filled("model.layers.2.mlp.up_proj.weight", float("inf")), "in model.layers.2.mlp.up_proj.weight"),
    "fewer layers": (fields(num_hidden_layers=2, layer_types=None), "without a place: model.layers.2"),
    "no layers": (fields(num_hidden_layers=0, layer_types=None), "without a place: model.layers.0"),
    "more layers": (fields(num_hidden_layers=6, layer_types=None), "lacks weights: model.layers.4"),
    "layers below 0": (fields(num_hidden_layers=-1, layer_types=None), "num_hidden_layers"),
    "layers a text": (fields(num_hidden_layers="four"), "num_hidden_layers"),
    "wider": (fields(hidden_size=200), "weights of other shapes: model.embed_tokens.weight"),
    "smaller vocabulary": (fields(vocab_size=1000), "weights of other shapes: model.embed_tokens.weight"),
    "no heads": (fields(num_attention_heads=0), "modulo by zero"),
    "one weight more": (weights(lambda held: held.update(extra=torch.ones(2))), "without a place: extra"),
    "one weight less": (weights(lambda held: held.pop("model.norm.weight")), "lacks weights: model.norm.weight"),
    "no context": (fields(max_position_embeddings=0), "max_position_embeddings is 0"),
    "rope unknown": (fields(rope_parameters={"rope_type": "own"}), "own"),
    "packages missing": (fields(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}), "bits"),
    "no tokenizer": (gone("tokenizer.json"), "has no tokenizer.json"),
    "no tokenizer at all": (gone("tokenizer.json", "tokenizer_config.json"), "has no tokenizer.json"),
    "tokenizer empty": (content("tokenizer.json", b"{}"), "cannot load"),
    "tokenizer a list": (content("tokenizer_config.json", b"[]"), "cannot load"),
    "a token too many": (one_token_more, "its tokenizer has 1537 tokens, the weights 1536"),
    "no template": (gone("chat_template.jinja"), "has no chat template"),
    "template no text": (content("chat_template.jinja", b"\xff"), "cannot load"),
    "template empty": (content("chat_template.jinja", b""), "chat template"),
    "template constant": (content("chat_template.jinja", b"Hello"), "does not render tool results"),
    "template adds": (content("chat_template.jinja", b"{{ messages + 1 }}"), "chat template refuses"),
    "template divides": (content("chat_template.jinja", b"{{ 1 / 0 }}"), "chat template refuses"),
    "template recurses": (
        content("chat_template.jinja", b"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), "chat template refuses",
    ),
    "template eats memory": (content("chat_template.jinja", b"{{ 'a' * 10 ** 15 }}"), "chat template refuses"),
    "template says why": (content("chat_template.jinja", b"{{ raise_exception('no\ntools') }}"), "user, assistant"),
    "template ends with nothing": (
        content("chat_template.jinja", b"{% for m in messages %}{{ m.content }}{% endfor %}"), "chat template",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_model_is_refused_in_one_line(tmp_path: Path, name: str, capfd) -> None:
    change, said = DAMAGED[name]
    folder = shutil.copytree(BASE, tmp_path / "model")
    change(folder)
    with pytest.raises(RunError) as caught:
        Policy.load(folder, device="cpu")
    assert said in one_line(caught)
    assert "REPORT" not in "".join(capfd.readouterr())  # the one line is all there is


@pytest.mark.parametrize("data", [None, b"", b"GGUF" + b"\xff" * 60, b"junk" * 99])
def test_a_damaged_gguf_file_is_refused_in_one_line(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(RunError, match="cannot load the model") as caught:
        Policy.load(tmp_path, gguf_file="m.gguf", device="cpu")
    one_line(caught)


def test_pickles_beside_safetensors_are_left_alone(tmp_path: Path) -> None:
    folder = shutil.copytree(BASE, tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    Policy.load(folder, device="cpu")


# --- names ----------------------------------------------------------------------------------------------

LOCAL = [  # each means a folder, which is not there
    "data/nano-rll", "data/none", "runs/mine/model", "runs", "./none", "../none", "/none", "~/none", "~nobody/none",
    "a/b/c", "none/", "here/none", "tests/none", "none.gguf", "model.safetensors", "C:\\models\\nano", "two words",
    "", " ", "x" * 300, "a\nb", Path("none"), Path("owner/name"),
]  # fmt: skip


@pytest.mark.parametrize("name", LOCAL, ids=lambda name: repr(name)[:20])
def test_a_folder_that_is_not_there_is_never_asked_for_on_a_hub(tmp_path: Path, monkeypatch, name) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "tests").mkdir()
    monkeypatch.setattr("uma_lib.files.REPO", tmp_path)  # a clone may have a folder runs
    monkeypatch.setattr(models, "_from_hub", lambda name: pytest.fail("asked the hub"))
    with pytest.raises(RunError, match="no model folder at") as caught:
        Policy.load(name)
    one_line(caught)


def test_a_file_is_no_model(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").write_text("text")
    with pytest.raises(RunError, match="'mine' is a file"):
        Policy.load("mine")


def test_names_of_the_hub_are_left_to_it() -> None:
    for name in ("Qwen/Qwen3-4B-Instruct-2507", "gpt2", "HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen2.5-0.5B"):
        assert model_folder(name) is None and models.recorded(name) == name


def test_a_name_is_a_folder_here_first_and_then_what_is_shipped(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_folder("data/nano") == BASE and models.recorded("data/nano") == "data/nano"
    assert models.recorded(BASE) == models.recorded(f"{REPO}/data/../data/nano") == "data/nano"
    mine = shutil.copytree(BASE, tmp_path / "data" / "nano")
    assert model_folder("data/nano") == mine and models.recorded("data/nano") == str(mine)


ASK = (
    "import sys, time; from uma_lib.engines.policy import Policy; from uma_lib.runs import RunError\n"
    "for name in sys.argv[1:]:\n"
    "    try: print('loaded', Policy.load(name, device='cpu').model.num_parameters())\n"
    "    except RunError as error: print(error)\n"
)


def ask_for(*names: str, **environment: str) -> list[str]:
    given = {**os.environ, "PYTHONPATH": str(REPO), **environment}
    return subprocess.run(
        [sys.executable, "-c", ASK, *names], env=given, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_a_hub_is_asked_once_and_what_it_gave_serves_without_it(tmp_path: Path, hub) -> None:
    cache = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    said = ask_for("owner/nano", "owner/none", "none", **cache, HF_ENDPOINT=hub.address)
    assert said[0].startswith("loaded 1") and "there is no folder of this name, and the hub says: 404" in said[1]
    assert "cannot load the model none: there is no folder of this name" in said[2] and len(said) == 3
    assert [path for path in hub.asked if "none" in path] == ["/api/models/owner/none", "/api/models/none"]
    assert not [path for path in hub.asked if path.endswith((".bin", ".py"))]  # nothing that could run
    hub.stop()
    said = ask_for("owner/nano", "owner/other", **cache, HF_ENDPOINT=hub.address)
    assert said[0].startswith("loaded 1") and "the hub is not reached" in said[1] and len(said) == 2


def test_a_hub_that_is_switched_off_is_not_asked(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RunError, match="the hub is not reached .*, and the model was not downloaded before"):
        Policy.load("owner/nano")


# --- adapters -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_adapter(tmp_path_factory) -> Path:
    """A run that trained an adapter on data/nano."""
    folder = tmp_path_factory.mktemp("adapter") / "run"
    train(check(TrainingConfig, TINY | {"base": "data/nano", "lora_rank": 2}), folder)
    return folder


TINY = {
    "steps": 1, "contexts": 2, "trajectories": 4, "questions": 2, "lengths": [1], "late_lengths": [1], "lr": 0.01,
    "eval_every": 1, "eval_streams": 1, "eval_sessions": 1,
}  # fmt: skip


def logprobs(policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        return token_logprobs(policy.model, IDS)


def test_an_adapter_notes_a_base_that_is_found_from_anywhere(trained_adapter: Path, tmp_path, monkeypatch):
    config = read_json(trained_adapter / "model" / "adapter_config.json")
    assert config["base_model_name_or_path"] == "data/nano"
    here = logprobs(Policy.load(trained_adapter / "model", device="cpu"))
    moved = shutil.copytree(trained_adapter / "model", tmp_path / "moved")
    other = shutil.copytree(BASE, tmp_path / "data" / "nano")  # of the same name, which the adapter does not mean
    filled("model.norm.weight", 9.0)(other)
    monkeypatch.chdir(tmp_path)
    assert torch.equal(logprobs(Policy.load("moved", device="cpu")), here)
    assert torch.equal(logprobs(Policy.load(moved, device="cpu")), here)
    assert not torch.allclose(here, logprobs(Policy.load(BASE, device="cpu")))


def test_training_goes_on_from_an_adapter(trained_adapter: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(trained_adapter)
    before = load_file("model/adapter_model.safetensors")
    settings = TINY | {"base": "model", "lora_rank": 2, "beta": 0.1}
    train(check(TrainingConfig, settings | {"lr": 1e-12}), tmp_path / "still")
    train(check(TrainingConfig, settings), tmp_path / "on")
    for folder, same in ((tmp_path / "still", True), (tmp_path / "on", False)):
        after = load_file(folder / "model" / "adapter_model.safetensors")
        assert set(after) == set(before)
        assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before) == same
        assert read_json(folder / "model" / "adapter_config.json")["base_model_name_or_path"] == "data/nano"


@pytest.mark.parametrize("rank", [0, 4])
def test_another_rank_is_refused(trained_adapter: Path, tmp_path: Path, rank: int) -> None:
    config = check(TrainingConfig, TINY | {"base": str(trained_adapter / "model"), "lora_rank": rank})
    with pytest.raises(RunError, match=f"adapter of rank 2 and lora_rank is {rank}: set lora_rank=2"):
        train(config, tmp_path / "run")
    assert not any((tmp_path / "run").glob("*"))


def base(name: str):
    return fields("adapter_config.json", base_model_name_or_path=name)


LORA_A = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
WRONG_ADAPTERS = {
    "base gone": (base("data/gone"), "the base of the adapter .*model: no model folder at 'data/gone'"),
    "base a moved folder": (base("/gone/base/model"), "the base of the adapter .*no model folder"),
    "base itself": (lambda folder: base(str(folder))(folder), "is an adapter itself"),
    "no base": (base(None), "needs base_model_name_or_path and r"),
    "no rank": (fields("adapter_config.json", r=None), "needs base_model_name_or_path and r"),
    "a list": (content("adapter_config.json", b"[]"), "needs base_model_name_or_path and r"),
    "half a file": (content("adapter_config.json", b"{"), "adapter_config.json: not valid JSON"),
    "another method": (fields("adapter_config.json", peft_type="IA3"), "peft_type is 'IA3'"),
    "another rank": (fields("adapter_config.json", r=3), "do not fit its base"),
    "other modules": (fields("adapter_config.json", target_modules=["query_key_value"]), "query_key_value"),
    "fewer modules": (fields("adapter_config.json", target_modules=["q_proj"]), "do not fit its base"),
    "no weights": (gone("adapter_model.safetensors"), "No such file"),
    "weights empty": (content("adapter_model.safetensors", b""), "adapter_model.safetensors is damaged"),
    "weights cut": (lambda f: os.truncate(f / "adapter_model.safetensors", 5000), "model.safetensors is damaged"),
    "a weight less": (
        weights(lambda held: held.pop(LORA_A), "adapter_model.safetensors"), f"do not fit its base .*: {LORA_A}",
    ),
    "a weight more": (
        weights(lambda held: held.update(extra=torch.ones(2)), "adapter_model.safetensors"), "do not fit.*: extra",
    ),
    "not a number": (
        weights(lambda held: held[LORA_A].fill_(float("nan")), "adapter_model.safetensors"), "not finite numbers in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_ADAPTERS)
def test_an_adapter_that_cannot_work_is_refused_in_one_line(trained_adapter: Path, tmp_path: Path, name: str) -> None:
    change, said = WRONG_ADAPTERS[name]
    folder = shutil.copytree(trained_adapter / "model", tmp_path / "model")
    change(folder)
    with pytest.raises(RunError, match=said) as caught:
        Policy.load(folder, device="cpu")
    one_line(caught)


def test_a_pickled_adapter_is_not_loaded(trained_adapter: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained_adapter / "model", tmp_path / "model")
    os.rename(folder / "adapter_model.safetensors", folder / "adapter_model.bin")
    with pytest.raises(RunError, match="pickled"):
        Policy.load(folder, device="cpu")


def test_a_base_elsewhere_is_noted_in_full(tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(BASE, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    policy = Policy.load("mine", device="cpu")
    models.new_adapter(policy.model, 2).save_pretrained("adapter", save_embedding_layers=False)
    assert read_json(Path("adapter/adapter_config.json"))["base_model_name_or_path"] == str(tmp_path / "mine")
    monkeypatch.chdir("/")
    assert torch.allclose(logprobs(Policy.load(tmp_path / "adapter", device="cpu")), logprobs(policy), atol=1e-6)


def test_the_shipped_template_still_fits() -> None:
    assert isinstance(Policy.load("data/nano", device="cpu").chat, ChatFormat)
