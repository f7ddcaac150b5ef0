"""Models as files: found by their name, loaded with an adapter if there is one, refused where damaged.

`transformers` and `peft` go on where weights are missing or left over, where they are no numbers or where there is no
tokenizer; here each is a `RunError` of one line that names the model. Weights are read from safetensors (or GGUF) only:
pickles, and code that comes with a model, are never loaded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import OfflineModeIsEnabled, StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from uma_lib.files import RunError, model_folder, read_json
from uma_lib.paths import REPO

ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]  # of a model on the hub
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
PICKLED = "its weights are pickled, which may run code when they are loaded; save it as safetensors"
PATIENCE = 10  # seconds in which the hub must answer
# what damaged files and configurations make of the libraries
DAMAGE = (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError, ArithmeticError, AssertionError,
          ImportError, StrictDataclassError)  # fmt: skip


def folder_of(name: str | Path) -> Path:
    """The folder of a model by its name: a folder, or a model of the hub, whose files are downloaded if need be."""
    return model_folder(name) or _from_hub(str(name))


def _from_hub(name: str) -> Path:
    reason = None
    try:
        # to see whether the hub answers: the download would ask a host again and again, or wait for it without an end
        HfApi().model_info(name, timeout=PATIENCE)
    except (httpx2.TransportError, OfflineModeIsEnabled) as error:
        reason = f"the hub is not reached ({one_line(error)}), and the model was not downloaded before"
    except (OSError, ValueError) as error:  # no such model, no access, or a name that no model can have
        raise _refusal(name, f"there is no folder of this name, and the hub says: {one_line(error)}") from error
    try:
        return Path(
            snapshot_download(name, allow_patterns=WANTED, ignore_patterns=["*/*"], local_files_only=bool(reason))
        )
    except (OSError, ValueError, httpx2.HTTPError) as error:
        raise _refusal(name, reason or one_line(error)) from error


def recorded(name: str | Path) -> str:
    """How a model's name is written into files, so that it is found from any directory and after a move.

    What the project ships keeps its short name, a model of the hub too; another folder is named in full.

    >>> recorded("data/nano"), recorded("Qwen/Qwen3-4B-Instruct-2507")
    ('data/nano', 'Qwen/Qwen3-4B-Instruct-2507')
    """
    folder = model_folder(name)
    if folder is None:
        return str(name)
    return folder.relative_to(REPO).as_posix() if folder.is_relative_to(REPO) else str(folder)


def load(
    name: str | Path, dtype: str = "float32", gguf_file: str | None = None, trainable: bool = False
) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """Model and tokenizer of a folder or of the hub, on the CPU.

    An adapter is loaded with its base; ``trainable`` lets the adapter be trained on.
    """
    folder = folder_of(name)
    adapter = adapter_config(folder)
    if adapter is None:
        return _plain(name, folder, dtype, gguf_file)
    base = base_of(folder, adapter)
    model, tokenizer = _plain(base, folder_of(base), dtype, None)
    return _with_adapter(model, folder, trainable), tokenizer


def without_weights(name: str | Path) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """The model that `load` would load, an adapter's base, with no weights: what can be asked of it costs no memory."""
    folder = folder_of(name)
    adapter = adapter_config(folder)
    if adapter is not None:
        return without_weights(base_of(folder, adapter))
    _check_files(name, folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False), tokenizer
    except DAMAGE as error:
        raise _refusal(name, one_line(error)) from error


def _plain(
    name: str | Path, folder: Path, dtype: str, gguf_file: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if gguf_file is None:
        _check_files(name, folder)
        options = {"use_safetensors": True}
    else:
        if not (folder / gguf_file).is_file():
            raise _refusal(name, f"it has no file {gguf_file}")
        options = {"gguf_file": gguf_file}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it prints a table of what does not fit; here that is one line
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, **({} if gguf_file is None else options)
        )
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa", output_loading_info=True, trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are in the report
            **options,
        )  # fmt: skip
    except SafetensorError as error:
        raise _refusal(name, f"its safetensors are damaged ({error}); restore them") from error
    except DAMAGE as error:
        raise _refusal(name, one_line(error)) from error
    finally:
        logging.set_verbosity(verbosity)
    # transformers would go on with random weights, or without those that its configuration has no place for
    for what, keys in (("lacks weights", "missing_keys"), ("has weights without a place", "unexpected_keys"),
                       ("has weights of other shapes", "mismatched_keys")):  # fmt: skip
        if report[keys]:
            names = ", ".join(sorted(key if isinstance(key, str) else key[0] for key in report[keys])[:3])
            raise _refusal(name, f"it {what}: {names}; config.json does not fit the weights")
    _check_numbers(model, name)
    places = model.get_input_embeddings().weight.shape[0]
    if not 0 < len(tokenizer) <= places:
        raise _refusal(name, f"its tokenizer has {len(tokenizer)} tokens, the weights {places}; restore its own")
    model.name_or_path = recorded(name)  # an adapter on it notes this as its base
    return model, tokenizer


def _check_files(name: str | Path, folder: Path) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise _refusal(name, f"{folder} has no config.json; give the folder of a model")
    try:
        found = read_json(config)
    except RunError as error:
        raise _refusal(name, str(error)) from error
    if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
        raise _refusal(name, f"{config} needs the field model_type; restore the file")
    suffixes = {file.suffix for file in folder.iterdir()}
    if ".safetensors" not in suffixes:
        if suffixes & PICKLES:
            raise _refusal(name, PICKLED)
        raise _refusal(name, f"{folder} has no weights, model.safetensors; restore them")
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")):
        raise _refusal(name, f"{folder} has no tokenizer.json; restore its tokenizer")


def _check_numbers(model: torch.nn.Module, name: str | Path) -> None:
    for tensor, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise _refusal(name, f"it has weights that are not finite numbers in {tensor}; train it anew")


def _refusal(name: str | Path, why: str) -> RunError:
    return RunError(f"cannot load the model {name}: {why}")


def one_line(error: BaseException) -> str:
    """What an error says, on one line of at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = f"{type(error).__name__} {text}" if isinstance(error, LookupError) else text  # of a KeyError, just the key
    return text if len(text) <= 300 else f"{text[:297]}..."


# --- adapters -----------------------------------------------------------------------------------------------------


def adapter_config(folder: Path) -> dict[str, Any] | None:
    """The configuration of the LoRA adapter in a folder; None where there is none."""
    path = folder / ADAPTER
    if not path.exists():
        return None
    found = read_json(path)
    wanted = {"base_model_name_or_path": str, "r": int}
    if not isinstance(found, dict) or not all(isinstance(found.get(name), kind) for name, kind in wanted.items()):
        raise RunError(f"{path}: needs base_model_name_or_path and r; restore the file")
    if found.get("peft_type") != "LORA":
        raise RunError(f"{path}: peft_type is {found.get('peft_type')!r}; only LORA adapters are supported")
    return found


def base_of(folder: Path, adapter: dict[str, Any]) -> str:
    """The name of an adapter's base, as `folder_of` takes it."""
    name = adapter["base_model_name_or_path"]
    name = str(REPO / name) if (REPO / name).is_dir() else name  # as `recorded` has written it, not what is here
    try:
        place = model_folder(name)
    except RunError as error:
        raise RunError(f"the base of the adapter {folder}: {error}") from error
    if place and (place / ADAPTER).exists():
        raise RunError(f"the base of the adapter {folder} is an adapter itself, {name}: merge that into its base first")
    return name


def new_adapter(model: PreTrainedModel, rank: int) -> torch.nn.Module:
    """The model with a LoRA adapter on all linear layers, which changes nothing yet."""
    from peft import LoraConfig, get_peft_model  # here, because importing peft takes seconds

    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))


def _with_adapter(model: PreTrainedModel, folder: Path, trainable: bool) -> torch.nn.Module:
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    path = folder / ADAPTER_WEIGHTS
    if not path.exists() and any(file.suffix in PICKLES for file in folder.iterdir()):
        raise _refusal(folder, PICKLED)
    try:
        config = LoraConfig.from_pretrained(folder)
        config.inference_mode = not trainable
        adapted = get_peft_model(model, config)
        wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        found = load_file(path)
    except SafetensorError as error:
        raise _refusal(folder, f"{ADAPTER_WEIGHTS} is damaged ({error}); restore it") from error
    except DAMAGE as error:
        raise _refusal(folder, one_line(error)) from error
    # peft would go on with an untrained adapter, or fail with a page of text
    names = [name for name in sorted({*wanted, *found}) if name not in wanted or name not in found
             or wanted[name].shape != found[name].shape]  # fmt: skip
    if names:
        raise _refusal(folder, f"its weights do not fit its base or {ADAPTER}: {', '.join(names[:3])}")
    set_peft_model_state_dict(adapted, found)
    _check_numbers(adapted, folder)
    if not trainable:
        adapted.requires_grad_(False)
    return adapted


@contextmanager
def merged_weights(model: torch.nn.Module) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """Names and weights as the model without its adapter has them, the adapter added in; valid in the block."""
    if not hasattr(model, "merge_adapter"):
        yield [(name, weight.detach()) for name, weight in model.named_parameters()]
        return
    model.merge_adapter()
    try:
        yield [
            (name.removeprefix("base_model.model.").replace(".base_layer.", "."), weight.detach())
            for name, weight in model.named_parameters()
            if ".lora_" not in name
        ]
    finally:
        model.unmerge_adapter()
