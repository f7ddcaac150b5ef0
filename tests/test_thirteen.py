"""Every agent on data sets of every family, at a server that is killed, restarted, and answers nonsense."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests import set_files
from tests.model_server import completion, message, server
from tests.test_datasets import REAL
from uma_lib.agents.all import KINDS
from uma_lib.evaluation import EvaluationConfig, merge, read_answers, read_traces, run
from uma_lib.files import RunError
from uma_lib.parameters import check
from uma_lib.rows import TIMES

AGENTS = ["uma_base", *(name for name in KINDS if name not in ("uma", "question_only", "rag_bm25"))]


def short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def scripted(body, number=0, headers=None):
    """A model that does what each agent asks of it; what it says depends on its messages alone."""
    messages, names = body["messages"], {tool["function"]["name"] for tool in body.get("tools", [])}
    told, asked = messages[0]["content"], messages[-1]["content"]
    if names:
        first = messages[-1]["role"] != "tool"
        if "update_core" in names:
            entry = {"key": short(asked), "value": asked[-40:]}
            call = ("add", entry) if first else ("update_core", {"text": "so far"})
        elif "memory_insert" in names:
            call = ("memory_insert", {"memory_type": "semantic", "content": asked[-40:]}) if first else None
        else:
            call = ("list", {}) if first else ("answer", {"text": short(asked)})
        if call:
            made = {"id": "a", "type": "function", "function": {"name": call[0], "arguments": json.dumps(call[1])}}
            said = message("tool_calls", content=None, tool_calls=[made])
        else:
            said = completion("done")
    elif "JSON object" in told:
        said = completion(json.dumps({"keywords": [short(asked)], "context": "c", "tags": []}))
    elif "JSON list" in told:
        said = completion('[{"number": 0, "context": "new", "tags": ["t"]}]')
    elif "internal state" in told:
        said = completion(f"Hm. <IS>{short(asked)}</IS>")
    elif "Write the memory anew" in told:
        said = completion(f"memory {short(asked)}")
    else:
        said = completion(f"\\boxed{{{short(asked)}}}")
    usage = {"prompt_tokens": len(json.dumps(messages)) // 4, "completion_tokens": 9}
    return said[0], said[1] | {"usage": usage}


@pytest.fixture
def folder(tmp_path):
    """Small sets of each family."""
    place = tmp_path / "sets"
    set_files.nlu(place)
    set_files.msc(place, 5)
    set_files.write(place / "hotpotqa" / "dev_distractor.json", [
        {"question": f"Where is {name}?", "answer": f"in {name}town", "supporting_facts": [[name, 0]],
         "context": [[name, [f"{name} is in {name}town."]], ["Other", ["Nothing."]]]}
        for name in ("Ada", "Bo")
    ])  # fmt: skip
    return place


def config_of(url: str, folder: Path, **more) -> EvaluationConfig:
    values = {
        "model": f"{url}#m", "agents": AGENTS, "sets": ["nlu", "msc", "hotpotqa"], "data": str(folder),
        "session_tokens": 6000, "turn_tokens": 500, "chunk_tokens": 300, "stream_tokens": 800, "questions": 4,
        "whole": False, "temperature": 0.0, "patience": 0.3, "smoke": True,
    }  # fmt: skip
    return check(EvaluationConfig, values | more)


def table(out: Path) -> list[dict]:
    """The rows without times."""
    return [{name: value for name, value in row.items() if name not in TIMES} for row in read_answers(out)]


@pytest.fixture
def undisturbed(folder, tmp_path):
    with server(scripted) as (url, _):
        run(config_of(url, folder), tmp_path / "whole")
    return table(tmp_path / "whole")


def test_every_agent_answers_every_set(undisturbed, tmp_path):
    counts = Counter((row["agent"], row["set"]) for row in undisturbed)
    assert counts == {(a, s): n for a in AGENTS for s, n in (("nlu", 4), ("msc", 4), ("hotpotqa", 2))}
    assert len({(row["agent"], row["id"]) for row in undisturbed}) == len(undisturbed)
    assert all(row["answer"] and not row["error"] for row in undisturbed)
    reads = {row["agent"] for row in undisturbed if row["memory_tokens"]}
    assert reads == {"uma_base", "memagent_woq", "mem1", "mem_alpha", "a_mem"}
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert {one["metric"] for one in summary["metrics"] if one["set"] == "hotpotqa"} == {"f1", "exact", "rouge_l"}
    assert len(summary["differences"]) == 3 * len(AGENTS) * (len(AGENTS) - 1) // 2
    assert not (tmp_path / "whole" / "memories").exists()
    manifest = json.loads((tmp_path / "whole" / "manifest.json").read_text())
    assert len(manifest["data"]) == 3 and all(len(digest) == 64 for digest in manifest["data"].values())
    cells = [one for one in summary["accuracy"] if one["set"] == "nlu" and one["kind"] == "all"]
    assert all(cell["low"] is None and len(cell["within"]) == 2 for cell in cells)  # one stream


FAULTS = [(429, b"slow down"), (500, b"oops"), (200, b"<html>"), (200, b'{"choices": [{"mess'), (0, b"")]


def test_a_server_that_is_killed_and_answers_nonsense(undisturbed, folder, tmp_path):
    """Each run ends when the server goes; the next one goes on. Nothing is lost, doubled or asked for nothing."""
    out, port, asked = tmp_path / "disturbed", 0, Counter()

    def play(body, count, headers):
        nonlocal answered
        asked[json.dumps(body, sort_keys=True)] += 1
        if count % 7 == 3:
            return FAULTS[count % len(FAULTS)]
        if answered >= 25:
            return 0, b""  # as a server that was killed
        answered += 1
        return scripted(body)

    runs = 0
    while True:
        answered, runs = 0, runs + 1
        with server(play, port=port) as (url, _):
            port = int(url.split(":")[2].partition("/")[0])
            try:
                summary = run(config_of(url, folder), out)
                break
            except RunError as error:
                assert "no connection, or it broke off" in str(error) or "HTTP" in str(error) or "sent no" in str(error)
                for path in (out / "parts").glob("*.jsonl"):
                    records = [json.loads(line) for line in path.read_text().splitlines()]
                    keys = [(r["stream"], r.get("chunk", r.get("id"))) for r in records]
                    assert len(keys) == len(set(keys))  # nothing is read or asked twice
    assert runs > 4 and summary["accuracy"]
    assert table(out) == undisturbed


KILLED = """
import sys, json
from uma_lib.evaluation import EvaluationConfig, run
from uma_lib.parameters import check
run(check(EvaluationConfig, json.loads(sys.argv[1])), sys.argv[2], shard=tuple(json.loads(sys.argv[3])))
print("done")
"""


def child(config, out, shard=(0, 1)):
    from dataclasses import asdict

    words = [sys.executable, "-c", KILLED, json.dumps(asdict(config)), str(out), json.dumps(shard)]
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def slowly(body, number, headers):
    time.sleep(0.01)
    return scripted(body)


def test_shards_on_two_processes_that_are_killed_merge_to_the_same(undisturbed, folder, tmp_path):
    with server(slowly) as (url, _):
        config = config_of(url, folder, block=1, parallel=2)
        shards = [tmp_path / "one", tmp_path / "two"]
        running = [child(config, out, (k, 2)) for k, out in enumerate(shards)]
        until = time.monotonic() + 60
        while not all(list((out / "parts").glob("a_mem*")) for out in shards) and time.monotonic() < until:
            time.sleep(0.05)  # in the middle of it
        for process in running:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        running = [child(config, out, (k, 2)) for k, out in enumerate(shards)]
        for process in running:
            said, errors = process.communicate(timeout=120)
            assert said == "done\n", errors
        assert not any((out / "summary.json").exists() for out in shards)
        summary = merge(config, shards, tmp_path / "merged")
    assert summary and table(tmp_path / "merged") == undisturbed
    with pytest.raises(RunError, match="one: seed is 0 there, not 1"):
        merge(config_of(url, folder, block=1, seed=1), shards, tmp_path / "other")


def test_what_fails_is_a_row_and_is_tried_again_on_request(folder, tmp_path):
    refuse = True

    def play(body, number, headers):
        text = json.dumps(body["messages"])
        if refuse and "Where is Bo?" in text:
            return 400, b"too long for me"
        return scripted(body)

    with server(play) as (url, bodies):
        config = config_of(url, folder, agents=["concat", "uma_base"], sets=["hotpotqa"])
        summary = run(config, tmp_path / "out")
        rows = read_answers(tmp_path / "out")
        failed = [row for row in rows if row["error"]]
        assert len(failed) == 2 and all("too long for me" in row["error"] for row in failed)
        assert all(row["correct"] is None and row["answer"] == "" for row in failed)
        cells = [one for one in summary["accuracy"] if one["kind"] == "all"]
        assert all(cell["failed"] == 1 and cell["questions"] == 1 for cell in cells)
        asked, refuse = len(bodies), False
        assert run(config, tmp_path / "out") == summary and len(bodies) == asked
        again = run(config, tmp_path / "out", retry=True)
        assert not any(row["error"] for row in read_answers(tmp_path / "out"))
        assert all("failed" not in cell for cell in again["accuracy"]) and len(bodies) == asked + 1 + 2
        refuse = True
        with pytest.raises(RunError, match="concat could not be asked one of 1 questions of hotpotqa.*too long for me"):
            run(config_of(url, folder, agents=["concat"], sets=["hotpotqa"], limit=2, samples=1, set_seed=5,
                          data=str(_only(folder, tmp_path))), tmp_path / "all")  # fmt: skip


def _only(folder, tmp_path):
    """The hotpotqa set with the question that is refused alone."""
    rows = json.loads((folder / "hotpotqa" / "dev_distractor.json").read_text())
    set_files.write(tmp_path / "bo" / "hotpotqa" / "dev_distractor.json", rows[1:])
    return tmp_path / "bo"


def test_a_run_may_go_on_with_another_address_and_fewer_requests(folder, tmp_path):
    with server(scripted) as (url, _):
        first = run(config_of(url, folder, agents=["concat"], sets=["msc"]), tmp_path / "out")
    assert run(config_of("http://127.0.0.1:1/v1", folder, agents=["concat"], sets=["msc"], parallel=1),
               tmp_path / "out") == first  # fmt: skip
    with pytest.raises(RunError, match="other parameters.*temperature"):
        run(config_of(url, folder, agents=["concat"], sets=["msc"], temperature=0.5), tmp_path / "out")
    set_files.msc(folder, 10)
    with pytest.raises(RunError, match="other inputs.*msc_self_instruct.jsonl has changed"):
        run(config_of(url, folder, agents=["concat"], sets=["msc"]), tmp_path / "out")


def test_traces_of_a_server(folder, tmp_path):
    with server(scripted) as (url, _):
        run(config_of(url, folder, agents=["memagent"], sets=["msc"], traces=True), tmp_path)
    (found,) = read_traces(tmp_path / "traces" / "memagent-0-msc.jsonl.gz")
    name, sessions, answers = found
    rows = {row["id"]: row for row in read_answers(tmp_path)}
    assert name == "msc/0" and len(sessions) == 25 and set(answers) == set(rows)
    for question, trace in answers.items():
        assert sum(trace.cost) == rows[question]["prompt_tokens"] + rows[question]["written_tokens"]
        assert len(trace.sessions) == 2 and trace.parts[0].phase == "memory"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real samples are not in {REAL}: name their folder in UMA_SAMPLES")
def test_every_agent_end_to_end_on_real_samples(tmp_path):
    """A 20-session Ledger stream, a LoCoMo sample, 200 examples of Banking77, a HotpotQA sample."""
    for name in ("locomo", "banking77", "hotpotqa"):
        (tmp_path / "sets" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "sets" / name).symlink_to(REAL / name)
    with server(scripted) as (url, _):
        config = check(EvaluationConfig, {
            "model": f"{url}#m", "agents": AGENTS, "sets": ["ledger-qa", "locomo", "banking77", "hotpotqa"],
            "data": str(tmp_path / "sets"), "horizons": [20], "streams": [1], "samples": 1, "questions": 3,
            "stream_tokens": 4200, "session_tokens": 16_000, "turn_tokens": 2000, "chunk_tokens": 4000, "whole": False,
            "temperature": 0.0, "parallel": 4,
        })  # fmt: skip
        run(config, tmp_path / "out")
    rows = table(tmp_path / "out")
    counts = Counter((row["agent"], row["set"]) for row in rows)
    wanted = {"ledger-qa/small/20": 8, "locomo": 3, "banking77": 3, "hotpotqa": 1}
    assert counts == {(agent, name): n for agent in AGENTS for name, n in wanted.items()}
    assert not any(row["error"] for row in rows)
    for row in rows:
        assert row["answer"] and (row["horizon"] > 1 or row["set"] == "banking77")
