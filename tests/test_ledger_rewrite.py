"""Rewriting: what a model says is checked and counted, and the ground truth never changes. All servers are local."""

import doctest
import importlib
import json
import re
import subprocess
import sys
import threading
import time
from decimal import Decimal

import pytest

from tests.model_server import KEY, completion, message, server
from uma_lib.files import RunError
from uma_lib.ledger import Stream, authors, files, language, testsets
from uma_lib.ledger.__main__ import main
from uma_lib.ledger.rewrite import ASKED, RewriteConfig, Utterance, found, refusal, rewrite, utterances
from uma_lib.ledger.state import Event
from uma_lib.ledger.streams import Session
from uma_lib.parameters import check

rewrite_module = importlib.import_module("uma_lib.ledger.rewrite")
TAXI = "Also, yesterday I paid $12.50 for a taxi."
SESSION = Session(
    0,
    "2024-05-02",
    "\n".join(
        [
            f'[2024-05-02] User said, "{TAXI}"',
            '[2024-05-02] Assistant said, "Noted."',
            '[2024-05-02] User said, "I might spend $9 on a movie soon."',
            '[2024-05-02] Assistant said, "I see."',
            '[2024-05-02] User said, "I paid $8 for the taxi on 2024-04-01, not $7."',
            '[2024-05-02] Assistant said, "Corrected."',
            '[2024-05-02] User said, "That $12.50 for a taxi, did you get it?"',
            '[2024-05-02] Assistant said, "Yes, once."',
        ]
    ),
    (),
    (Stream("small", "test", 1, 0).session(0).expenses[0].__class__(0, 2, "", "", "", Decimal(9)),),
    (
        Event("purchase", 0, 0, "0.0", None, "2024-05-01", "Transportation", "taxi", Decimal("12.50")),
        Event("amount", 0, 4, "0.1", "0.1", amount=Decimal(8)),
    ),
)


def line_of(body):
    return body["messages"][-1]["content"].rpartition("\n")[2].partition(": ")[2]


def good(text):
    return f"Please note: {text}"


def config(url, **settings):
    return RewriteConfig(url, "toy", **{"timeout": 5.0, "tries": 1, **settings})


def texts(sessions, settings, cache):
    new, report = rewrite(sessions, settings, cache)
    return [session.text for session in new], report


def test_a_good_model_changes_words_and_nothing_else(tmp_path):
    stream = Stream("standard", "test", 4, 1, revisions=0.4)
    with server(lambda body, *_: completion(good(line_of(body)))) as (url, bodies):
        new, report = rewrite(stream, config(url), tmp_path / "a")
        new = list(new)
        again, cached = texts(stream, config(url, parallel=1), tmp_path / "a")
        alone, _ = texts(stream, config(url, parallel=1), tmp_path / "b")
        asked = len({json.dumps(body) for body in bodies})
    for old, session in zip(stream, new, strict=True):
        assert (session.expenses, session.mentioned, session.events) == (old.expenses, old.mentioned, old.events)
        lines = list(zip(old.text.split("\n"), session.text.split("\n"), utterances(old), strict=True))
        for n, (before, after, utterance) in enumerate(lines):
            assert re.fullmatch(rf'\[{old.date}\] {("User", "Assistant")[n % 2]} said, "[^"]+"', after)
            assert [f.value for f in found(before)] == [f.value for f in found(after)]
            assert (before != after) == (utterance.kind in ASKED), (before, after)
    assert again == alone == [session.text for session in new]
    assert len(bodies) == 2 * asked == 2 * report.requests and cached.requests == 0  # no line was asked for twice
    assert report.asked == report.rewritten == cached.rewritten > report.requests
    assert report.utterances == report.asked + sum(report.untouched.values()) == cached.utterances
    assert len(report.after) > len(report.before)
    assert f"3-grams: {len(report.before)} before, {len(report.after)} after" in str(report)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda text: text.replace("12.50", "13.50"), "lost amount"),
        (lambda text: text.replace("$12.50", "twelve fifty") + " And a tip of two dollars.", "new amount"),
        (lambda text: text.replace("$12.50", "12 fifty"), "lost amount"),
        (lambda text: text.replace("yesterday ", ""), "lost day"),
        (lambda text: text.replace("yesterday", "last week"), "lost day"),
        (lambda text: text.replace("$12.50", "C$12.50"), "lost amount"),
        (lambda text: text.replace("$12.50", "$12.50k"), "lost amount"),
        (lambda text: f"{text} I paid $12.50 for a taxi.", "order"),
        (lambda text: text.replace("taxi", "cab"), "lost thing"),
        (lambda text: text + " And the bus.", "new thing"),
        (lambda text: text + " That is Transportation.", "new category"),
        (lambda text: text.replace("I paid", "I'll pay"), "meaning"),
        (lambda text: text.replace("I paid", "I was paid"), "meaning"),
        (lambda text: text.replace("I paid", "I have"), "no payment"),
        (lambda text: text.replace("I paid", "they gave me"), "no payment"),
        (lambda text: text.replace("I paid", "you paid"), "speaker"),
        (lambda text: "%&/ asdf", "lost amount"),
        (lambda text: "", "empty"),
        (lambda text: text, "unchanged"),
        (lambda text: f"Here you are:\n{text}", "shape"),
        (lambda text: f'"{text}", she said, "as well."', "shape"),
        (lambda text: text * 4, "too long"),
        (lambda text: text + " \ud83d", "shape"),
    ],
)
def test_a_bad_model_changes_nothing(tmp_path, spoil, why):
    with server(lambda body, *_: completion(spoil(line_of(body)))) as (url, _):
        (text,), report = texts([SESSION], config(url), tmp_path)
    assert report.refused[why] >= 1 and report.asked == 2
    assert text.split("\n")[0] == SESSION.text.split("\n")[0] and text.split("\n")[2:] == SESSION.text.split("\n")[2:]
    assert report.untouched == {"unpaid amount": 2, "revision": 2, "follow-up": 2}


def test_small_talk_can_be_left_alone(tmp_path):
    with server(lambda body, *_: completion(good(line_of(body)))) as (url, bodies):
        (text,), report = texts([SESSION], config(url, kinds=("purchase",)), tmp_path)
    assert len(bodies) == report.rewritten == 1 and good(TAXI) in text and report.untouched["answer"] == 1


def test_another_try_may_pass_and_a_cut_off_answer_may_not(tmp_path):
    seeds = []

    def play(body, *_):
        seeds.append(body["seed"])
        return completion(good(line_of(body)), "length" if len(seeds) == 1 else "stop")

    with server(play) as (url, _):
        (text,), report = texts([SESSION], config(url, tries=2, parallel=1), tmp_path)
    assert report.rewritten == 2 and report.requests == 3 and len(set(seeds[:2])) == 2
    assert good(TAXI) in text


@pytest.mark.parametrize(
    ("said", "amounts"),
    [
        ("$12.50, US$12.5, 12.50, 12.5 dollars, USD 12.5, 12 dollars and 50 cents, twelve fifty", ["12.5"] * 7),
        ("$1,204.00 or 1,204.00, $1204 or 1204 bucks", ["1204"] * 4),
        ("eight dollars and five cents, ninety-nine ninety-nine, forty dollars", ["8.05", "99.99", "40"]),
        ("-$5 and $ 5 dollars", ["-5", "5"]),
        ("12, twelve, $1.5k, $1,50, 5%, A$3.00, -3.00, €4.00k, 2023-01-04, 12.505.1", []),
    ],
)
def test_amounts_in_any_form_are_decimals(said, amounts):
    assert [fact.value for fact in found(said) if fact.kind == "amount"] == [Decimal(amount) for amount in amounts]


def test_days_in_any_form():
    said = "2024-05-01, May 1, 2024, 1 May 2024, May 1st, 2024, two days ago, 2 days ago, on Monday, I may march"
    assert [fact.value for fact in found(said)] == ["2024-05-01"] * 4 + ["2 days ago"] * 2 + ["monday"]


def test_examples_in_docstrings():
    assert doctest.testmod(rewrite_module).failed == 0


def test_facts_are_those_of_the_events():
    for size in ("small", "standard", "hard"):
        for session in Stream(size, "test", 4, 2):
            for turn, utterance in enumerate(utterances(session)):
                events = [event for event in session.events if event.turn == turn]
                assert (utterance.kind in ("purchase", "request")) == bool(events)
                facts = found(utterance.text) if events else []
                scenes = {event.scene for event in events}  # the same thing bought twice may be named once
                assert len(scenes) <= len([fact for fact in facts if fact.kind == "thing"]) <= len(events)
                amounts = [fact.value for fact in facts if fact.kind == "amount"]
                assert amounts == ([event.amount for event in events] if utterance.kind == "purchase" else [])


def test_no_unpaid_amount_passes_for_a_purchase():
    def say(templates):
        return [language.sentence(text.format(a="$12.50", x="a taxi")) for text in templates]

    paid = say([*language._STATEMENTS, *language._PAID])
    paid += [f"Well, {paid[0]} {remark}" for remark in language._REMARKS]  # "Not too bad."
    unpaid = [text for kind in language._MENTIONS.values() for text in kind] + [*language._PLANNED, *language._AGAIN]
    for old in (Utterance("User", text, "purchase") for text in paid):
        assert not [new for new in say(unpaid) if refusal(old, new) is None]
    plain = Utterance("User", "I spent $12.50 on a taxi.", "purchase")
    assert sum(refusal(plain, new) is None for new in paid) > len(paid) / 2


def test_two_purchases_keep_their_amounts():
    told = Utterance("User", "I spent $12 on coffee and $9 on a movie.", "purchase")
    assert refusal(told, "I paid $12 for coffee, then $9 for a movie.") is None
    assert refusal(told, "I paid $9 for coffee, then $12 for a movie.") == "order"
    same = Utterance("User", "I spent $9 on coffee and $9 on a movie.", "purchase")
    assert refusal(same, "I spent $9 on coffee and a movie.") == "order"


def run(monkeypatch, capsys, *arguments):
    """What the command prints; the line of the error where there is one."""
    monkeypatch.setattr(sys, "argv", ["uma_lib.ledger", *map(str, arguments)])
    try:
        main()
    except SystemExit as error:
        assert len(str(error).splitlines()) == 1
        return str(error)
    return capsys.readouterr().out


STREAMS = ("rewrite", "--size", "standard", "--sessions", 2, "--streams", 2, "--track", "ledger-qa-revised")


def test_the_command_writes_files_that_are_marked(tmp_path, monkeypatch, capsys):
    with server(lambda body, *_: completion(good(line_of(body)))) as (url, bodies):
        at = ("--base-url", url, "--model", "toy/model", "--cache", tmp_path / "cache")
        said = run(monkeypatch, capsys, *STREAMS, *at, "--out", tmp_path / "a.parquet", "--per-kind", 2)
        asked = len(bodies)
        again = run(
            monkeypatch, capsys, *STREAMS, *at, "--out", tmp_path / "a.json.gz", "--format", "authors", "--per-kind", 2,
            "--parallel", 1,
        )  # fmt: skip
    report = said.partition("bytes\n")[2]
    assert f"{tmp_path}/a.parquet: 2 streams" in said and f"({asked} requests to the server)" in report
    assert again.partition("bytes\n")[2] == report.replace(f"({asked} requests", "(0 requests") and len(bodies) == asked
    found = list(files.read_parquet(tmp_path / "a.parquet"))
    assert found == authors.read_authors(tmp_path / "a.json.gz")
    for index, one in enumerate(found):
        plain = files.sample(Stream("standard", "train", 2, index, 0.2), 2)
        assert one.rewritten_by == "toy/model" and plain.rewritten_by is None and one.chunks != plain.chunks
        same = ("id", "dates", "events", "questions")
        assert [getattr(one, name) for name in same] == [getattr(plain, name) for name in same]
    monkeypatch.setattr(testsets, "load", dict)  # whatever the manifest holds
    for name in ("a.parquet", "a.json.gz"):
        assert "in the words of the model 'toy/model': it is no test set" in run(
            monkeypatch, capsys, "verify", "--file", tmp_path / name
        )


def test_a_test_set_of_which_no_word_was_changed_is_no_test_set(tmp_path):
    stream = Stream("small", "test", 2, 0)
    with server(lambda body, *_: completion(line_of(body))) as (url, _):
        sessions, report = rewrite(stream, config(url), tmp_path)
        one = files.sample(stream, sessions=sessions, rewritten_by="toy")
    plain = files.sample(stream)
    assert report.rewritten == 0 and one.chunks == plain.chunks
    digests = {files.write_parquet(tmp_path / "a.parquet", [sample]) for sample in (one, plain)}
    assert len(digests) == 2


def test_a_killed_command_goes_on_from_the_cache(tmp_path, monkeypatch, capsys):
    enough, over = threading.Event(), threading.Event()

    def play(body, number, _):
        if number > 20 and not over.is_set():
            enough.set()
            over.wait(20)
        return completion(good(line_of(body)))

    with server(play) as (url, bodies):
        at = ("--base-url", url, "--model", "toy")
        command = [*STREAMS, *at, "--cache", tmp_path / "cache", "--out", tmp_path / "a.parquet"]
        child = subprocess.Popen([sys.executable, "-m", "uma_lib.ledger", *map(str, command)], stdout=subprocess.PIPE)
        assert enough.wait(60)
        child.kill()
        assert child.communicate()[0] == b""
        over.set()
        kept = [json.loads(path.read_text())["request"] for path in tmp_path.rglob("*.json")]
        assert 20 - 4 <= len(kept) <= 20 and not (tmp_path / "a.parquet").exists()
        del bodies[:]
        said = run(monkeypatch, capsys, *command)
        assert not [body for body in bodies if body in kept] and f"({len(bodies)} requests" in said
        whole = (tmp_path / "a.parquet").read_bytes()
        first, second, third, *_ = sorted(tmp_path.rglob("*.json"))
        first.write_bytes(first.read_bytes()[:-30])
        second.write_text('{"request": {}, "reply": "other words", "finish_reason": "stop"}')
        third.write_text("null")
        assert "(3 requests to the server)" in run(monkeypatch, capsys, *command)
        assert (tmp_path / "a.parquet").read_bytes() == whole
        run(monkeypatch, capsys, *STREAMS, *at, "--cache", tmp_path / "new", "--out", tmp_path / "b.parquet")
    assert (tmp_path / "b.parquet").read_bytes() == whole


def test_the_command_says_what_to_change(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TOY_KEY", KEY)
    command = (*STREAMS, "--model", "toy", "--cache", tmp_path / "cache", "--out", tmp_path / "a.parquet")
    others = []

    def failing(*_):
        return (500, b"oops", ("Retry-After", "0.01"))

    def wrong_key(_, __, headers):
        return 401, {"error": {"message": f"{headers['Authorization']} is not known"}}

    def slow_down(body, number, _):
        return (429, b"", ("Retry-After", "0.01")) if number == 1 else completion(good(line_of(body)))

    def redirect(*_):
        return 307, b"", ("Location", f"{others[0]}/chat/completions")

    with server(lambda *_: completion("caught")) as (other, caught):
        others.append(other)
        for play, wanted in (
            (failing, "HTTP 500, 'oops' (attempts: 1); look at the server's log, or raise patience"),
            (wrong_key, "[key] is not known\"}}'; put a valid API key into an environment variable"),
            (redirect, "HTTP 307, nothing; write the final address as base_url"),
        ):
            with server(play) as (url, _):
                key = ("--key-variable", "TOY_KEY", "--patience", 0)
                line = run(monkeypatch, capsys, *command, "--base-url", url, *key)
            assert line.startswith(f"uma_lib.ledger: {url}/chat/completions: ") and wanted in line
            assert "secret" not in line
        assert not caught
    line = run(monkeypatch, capsys, *command, "--base-url", url, "--patience", 0)
    assert "Connection refused (attempts: 1); start the server" in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with server(slow_down) as (url, _):
        assert "0 rewritten" not in run(monkeypatch, capsys, *command, "--base-url", url, "--kinds", "purchase")
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    for arguments, wanted in (
        (("--base-url", "http://me:hunter2@host/v1"), "base_url holds credentials"),
        (("--base-url", url, "--key-variable", "NONE"), "key_variable names an environment variable that is empty"),
        (("--base-url", url, "--kinds", "talks"), "kinds is ['talks']; name some of purchase, answer, talk"),
        (("--base-url", url, "--parallel", 0), "parallel is 0; it must be at least 1 and at most 1000"),
        (("--base-url", url, "--parallel", 10**9), "parallel is 1000000000; it must be at least 1 and at most 1000"),
        (("--base-url", url, "--temperature", "nan"), "temperature is nan; it must be at least 0 and at most 10"),
        (("--base-url", url, "--temperature", "inf"), "temperature is inf; it must be at least 0"),
        (("--base-url", url, "--max-tokens", 0), "max_tokens is 0; it must be at least 1"),
        (("--base-url", url, "--tries", -1), "tries is -1; it must be at least 1"),
        (("--base-url", url, "--timeout", "nan"), "timeout is nan; write more than 0 seconds"),
        (("--base-url", url, "--timeout", "1e300"), "timeout is 1e+300; write more than 0 seconds, at most a day"),
        (("--base-url", url, "--patience", "nan"), "patience is nan; write seconds"),
        (("--base-url", url, "--patience", -1), "patience is -1; write seconds"),
        (("--base-url", url, "--model", " "), "model is ' '; give the name that the server knows the model by"),
        (("--base-url", url, "--model", "a\nb"), "model is 'a\\nb'; give the name"),
        (("--base-url", url, "--revisions", "nan"), "--revisions nan: 0 is track ledger-qa, more is track"),
        (("--base-url", url, "--revisions", "inf"), "revisions is a rate between 0 and 1, not inf"),
        (("--base-url", url, "--per-kind", 10**6), "--per-kind 1000000: at most 1000 is possible"),
        (("--base-url", url, "--sessions", 10**9), "--sessions 1000000000: at most 20000 is possible"),
        (("--base-url", url, "--cache", tmp_path / "file" / "x"), "file/x: no folder can be made or written there"),
        (("--base-url", url, "--cache", tmp_path / "a.parquet"), "--cache and --out are the same path"),
        (("--base-url", url, "--out", tmp_path / "folder.parquet"), "folder.parquet: a folder is there"),
        (("--base-url", "http://host:x/hunter2/v1"), "base_url is no address of a server"),
        (("--base-url", url, "--format", "rl"), "--format: unknown format 'rl'; known: parquet, authors"),
        (("--base-url", url, "--size", "big"), "--size: unknown size 'big'"),
    ):
        line = run(monkeypatch, capsys, *command, *arguments)
        assert wanted in line and "hunter2" not in line, arguments
    assert sorted(tmp_path.rglob("*")) == before  # all checks come before anything is written


def test_a_file_that_cannot_be_written_ends_the_requests(tmp_path, monkeypatch, capsys):
    with server(lambda body, *_: completion(good(line_of(body)))) as (url, bodies):
        (tmp_path / "a").write_text("")
        at = ("--base-url", url, "--model", "toy", "--cache", tmp_path / "cache", "--out", tmp_path / "a" / "a.parquet")
        assert "cannot write" in run(monkeypatch, capsys, *STREAMS, *at)
        asked = len(bodies)
        time.sleep(0.2)
        assert len(bodies) == asked


def test_settings_are_checked():
    for settings, said in [
        ({"kinds": ["talks"]}, "name some of purchase, answer, talk"),
        ({"parallel": 0}, "parallel is 0; it must be at least 1"),
        ({"temperature": float("nan")}, "temperature is nan; it must be at least 0"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": -0.1}, "temperature is -0.1; it must be at least 0"),
    ]:
        with pytest.raises(RunError, match=said):
            check(RewriteConfig, {"base_url": "http://host/v1", "model": "toy"} | settings)
    with pytest.raises(RunError, match="session 0, turn 1: write it as"):
        utterances(Session(0, "", '[x] User said, "a"\n[x] User said, "b"', ()))


THOUGHT = "They paid $99, so I say it in other words."


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({"content": f"<think>{THOUGHT}</think>\n@"}, True),
        ({"content": f"{THOUGHT}\n</think>\n\n@"}, True),  # the opening tag stands in the prompt
        ({"content": f"<think>a</think><THINKING x=1>{THOUGHT}</THINKING>@"}, True),
        ({"content": f"<reasoning>\n{THOUGHT}\n</reasoning>User: @"}, True),
        ({"content": "@", "reasoning_content": THOUGHT}, True),
        ({"content": "@", "reasoning": THOUGHT}, True),
        ({"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": "@"}]}, True),
        ({"content": f"<think>{THOUGHT} @"}, False),  # never closed
        ({"content": "<THINK>@"}, False),
        ({"content": "<think>@</think>"}, False),
        ({"content": "@</thought>"}, False),
        ({"content": None, "reasoning_content": "@"}, False),
        ({"content": "", "reasoning": "@"}, False),
        ({"content": None, "refusal": "@"}, False),
        ({"content": None, "tool_calls": [{"function": {"name": "say", "arguments": '{"line": "@"}'}}]}, False),
    ],
)
def test_a_thought_is_no_line(tmp_path, fields, taken):
    def play(body, *_):
        return message(**json.loads(json.dumps(fields).replace("@", good(line_of(body)))))

    with server(play) as (url, _):
        (text,), report = texts([SESSION], config(url), tmp_path)
    assert report.rewritten == (2 if taken else 0)
    assert text == (SESSION.text.replace(TAXI, good(TAXI)).replace("Noted.", good("Noted.")) if taken else SESSION.text)


@pytest.mark.parametrize("ended", ["length", "max_tokens", "MAX_TOKENS", "model_length", "content_filter"])
def test_an_answer_that_was_cut_is_not_taken(tmp_path, ended):
    with server(lambda body, *_: completion(good(line_of(body)), ended)) as (url, _):
        (text,), report = texts([SESSION], config(url), tmp_path)
    assert text == SESSION.text and report.refused == {"cut off": 2}


def test_a_server_that_fails_now_and_then_needs_one_start(tmp_path, monkeypatch, capsys):
    failures = [(200, b"<html>"), (200, b'{"choi'), (503, b"", ("Retry-After", "0.01")), (0, b"")]

    def play(body, number, _):
        return failures[number // 5 % len(failures)] if number % 5 == 0 else completion(good(line_of(body)))

    monkeypatch.setattr("uma_lib.server.LONGEST_PAUSE", 0.01)
    with server(play) as (url, bodies):
        at = ("--base-url", url, "--model", "toy", "--cache", tmp_path / "cache")
        said = run(monkeypatch, capsys, *STREAMS, *at, "--out", tmp_path / "a.parquet")
        asked = len({json.dumps(body) for body in bodies})
    assert asked > 50 and f"({asked} requests to the server)" in said and len(bodies) > 1.2 * asked


def test_an_address_with_a_key_is_not_shown():
    assert "hunter2" not in repr(RewriteConfig("http://host/hunter2/v1", "toy"))
