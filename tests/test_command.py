"""The program `uma` on a memory of one's own text: read, ask, show, from any directory; what it says when it cannot."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.memory_server import MemoryServer
from tests.model_server import server
from uma_lib.__main__ import ASSISTANT, CONFIGURED, parser
from uma_lib.paths import REPO

CHAT = [{"role": "user", "content": f"Ann{k} likes thing{k}."} for k in range(12)]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPO), "TQDM_DISABLE": "1"}
SMALL = ["--set", "session_tokens=2500", "--set", "chunk_tokens=30"]


def uma(folder, *words, code=0, **more):
    done = subprocess.run(
        [sys.executable, "-m", "uma_lib", *map(str, words)], cwd=folder, env=ENVIRONMENT, capture_output=True,
        text=True, timeout=120, **more,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.mark.parametrize("native", [True, False])
def test_read_ask_show(native, tmp_path):
    (tmp_path / "chat.json").write_text(json.dumps(CHAT))
    (tmp_path / "more.txt").write_text("Bob likes tea.\n")
    with MemoryServer(native).run() as (url, _):
        settings = [*SMALL, "--set", f"native_tools={json.dumps(native)}"]
        said = uma(tmp_path, "read", "memory", "chat.json", "more.txt", "--model", url, "--name", "m", *settings)
        assert "12 entries in the bank" in said and "more.txt: 1 chunks read; 13 entries" in said
        assert "chat.json: 0 chunks read" in uma(tmp_path, "read", "memory", "chat.json")  # nothing is new
        assert uma(tmp_path, "ask", "memory", "What does Bob like?", "What does Ann3 like?") == "tea\nthing3\n"
        traced = uma(tmp_path, "ask", "memory", "--trace", "What does Bob like?")
        assert "retrieve" in traced and "<tool_response>\ntea" in traced
        said = uma(tmp_path, "read", "memory", "-", input="Cy likes nuts.")
        assert "-: 1 chunks read; 14 entries" in said
    shown = uma(tmp_path, "show", "memory")  # without a server
    assert "core: 14 facts" in shown and "Cy: nuts" in shown and "Ann0: thing0" in shown
    history = uma(tmp_path, "show", "memory", "--history")
    assert "chunk 1 of chat.json" in history and "+ Bob: tea" in history


def test_what_cannot_be_is_one_line(tmp_path):
    for words, said in (
        (["read", "memory", "none.txt", "--model", "x"], "none.txt: no such file; nothing was read"),
        (["ask", "memory", "?"], "agent.json: no such file"),
        (["show", "memory"], "history.jsonl: no such file"),
        (["read", "memory", REPO / "LICENSE"], "no model is named"),
        (["read", "memory", REPO / "LICENSE", "--set", "modl=x"], "did you mean 'model'"),
        (["read", "memory", REPO / "LICENSE", "--model", "http://localhost:1/v1"], "name its model"),
        (["read", "memory", REPO / "LICENSE", "--set", "folder=3"], "unknown parameter 'folder'"),
        (["ask", "memory", "?", "--set", "engine=x"], "unknown parameter 'engine'"),
    ):
        found = uma(tmp_path, *words, code=1)
        assert said in found and len(found.strip().splitlines()) == 1
    assert not (tmp_path / "memory").exists()


def test_a_model_that_was_wrong_is_put_right(tmp_path):
    (tmp_path / "a.txt").write_text("Ann likes tea.")
    dead = ["--model", "http://localhost:1/v1#m", "--set", "patience=0"]
    assert "no connection" in uma(tmp_path, "read", "memory", "a.txt", *dead, code=1)
    with MemoryServer(True).run() as (url, _):
        uma(tmp_path, "read", "memory", "a.txt", "--model", f"{url}#m")
        assert uma(tmp_path, "ask", "memory", "What does Ann like?") == "tea\n"


def test_an_interrupted_reading_goes_on(tmp_path):
    script = MemoryServer(True)
    (tmp_path / "chat.json").write_text(json.dumps(CHAT))

    def slow(body, number, headers):
        if number == 6:
            time.sleep(20)
        return script(body, number, headers)

    with server(slow) as (url, bodies):
        words = ["read", "memory", "chat.json", "--model", url, "--name", "m", *SMALL]
        process = subprocess.Popen(
            [sys.executable, "-m", "uma_lib", *words], cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
        )
        until = time.monotonic() + 60
        while len(bodies) < 6 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
        assert process.returncode == 130 and "every chunk that was read whole is kept in memory" in said
        uma(tmp_path, *words)
    shown = uma(tmp_path, "show", "memory")
    assert "core: 12 facts" in shown and all(f"Ann{k}: thing{k}" in shown for k in range(12))


@pytest.mark.parametrize("command", [*ASSISTANT, *CONFIGURED, "pipeline", "figures", "sets"])
def test_help_lists_every_option_with_its_default(command, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    if command in (*CONFIGURED, "read", "ask"):
        assert "parameters and their defaults" in text and "--set NAME=VALUE" in text
    assert "--help" in text


def test_the_ledger_has_its_place_under_the_program(tmp_path):
    assert "ledger-qa/small/test/2: as in the manifest" in uma(tmp_path, "ledger", "verify", "ledger-qa/small/test/2")
