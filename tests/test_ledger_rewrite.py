"""Rewriting: what a server says is checked, kept and counted; the ground truth never changes. All servers are local."""

import doctest
import importlib
import json
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from uma_lib.ledger import Stream, language
from uma_lib.ledger.rewrite import ASKED, RewriteConfig, Utterance, found, refusal, rewrite, utterances
from uma_lib.ledger.state import Event
from uma_lib.ledger.streams import Session
from uma_lib.runs import RunError, check

rewrite_module = importlib.import_module("uma_lib.ledger.rewrite")
KEY = "sk-very-secret-0123456789"
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
    return f"Please, {text}"


def completion(text, ended="stop"):
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": ended}]}


@contextmanager
def server(play):
    """A server where ``play(body, number of the request, headers)`` gives status and answer; yields URL and bodies."""
    bodies, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                bodies.append(body)
                number = len(bodies)
            assert self.path == "/v1/chat/completions"
            status, answer, *headers = play(body, number, self.headers)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):  # a client that was killed
            pass

    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}/v1", bodies
        finally:
            running.shutdown()
            thread.join()


def config(url, **settings):
    return RewriteConfig(url, "toy", **{"wait": 0.01, "timeout": 5.0, "tries": 1, **settings})


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
    assert report.asked == report.rewritten == report.requests + report.cache_hits == cached.cache_hits
    assert report.utterances == report.asked + sum(report.untouched.values()) == cached.utterances
    before, after = report.variety()["3-grams"]
    assert after > before and json.dumps(report.as_dict()) and f"3-grams {before} -> {after}" in str(report)


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
                assert (utterance.kind == "purchase") == bool(events)
                facts = found(utterance.text) if events else []
                assert len([fact for fact in facts if fact.kind == "thing"]) == len(events)
                amounts = [fact.value for fact in facts if fact.kind == "amount"]
                assert amounts in ([], [event.amount for event in events])


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


def test_passing_failures_are_tried_again(tmp_path):
    failures = [
        (500, b"oops"), (429, b"slow down", ("Retry-After", "0")), (200, b"<html>"), (200, {"choices": []}),
        (200, {"choices": [{"message": {"content": 5}}]}), (200, b" " * 1_000_001),
    ]  # fmt: skip

    def play(body, number, _):
        return failures[number - 1] if number <= len(failures) else completion(good(line_of(body)))

    with server(play) as (url, bodies):
        _, report = texts([SESSION], config(url, parallel=1, attempts=7), tmp_path)
    assert report.rewritten == report.requests == 2 and len(bodies) == len(failures) + 2


@pytest.mark.parametrize(
    ("play", "said", "requests"),
    [
        (lambda *_: (500, b"out of\nmemory"), "HTTP 500, 'out of memory' (attempt 2); look at the server's log", 2),
        (lambda *_: (200, b"<html>hello</html>"), "sent no chat completion but '<html>hello</html>' (attempt 2)", 2),
        (lambda *_: (404, b""), "HTTP 404, nothing; check base_url (most end in /v1) and model", 1),
        (lambda *a: (401, f"bad {a[2]['Authorization']}".encode()), "'bad Bearer [key]'; put a valid API key", 1),
        (lambda *_: (302, b"", ("Location", "http://127.0.0.1:9/")), "write the final address as base_url", 1),
        (lambda *_: time.sleep(0.5) or (200, b""), "no answer in 0.2 s (attempt 2); raise timeout or lower", 2),
    ],
)  # fmt: skip
def test_lasting_failures_say_what_to_change(tmp_path, monkeypatch, play, said, requests):
    monkeypatch.setenv("TOY_KEY", KEY)
    with server(play) as (url, bodies):
        slow = 0.2 if "no answer" in said else 5.0
        settings = config(url, attempts=2, timeout=slow, parallel=1, key_variable="TOY_KEY")
        with pytest.raises(RunError) as caught:
            texts([SESSION], settings, tmp_path)
        asked = len(bodies)
    message = str(caught.value)
    assert message.startswith(f"{url}/chat/completions: ") and said in message and "\n" not in message
    assert KEY not in message and asked == requests
    with pytest.raises(RunError, match="cannot be reached: .*; start the server or correct base_url"):
        texts([SESSION], config(url, attempts=2), tmp_path)  # it is down now


def test_the_key_is_sent_and_nowhere_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_KEY", f" {KEY}\n")
    with server(lambda body, _, headers: completion(f"I was given {headers['Authorization']}")) as (url, _):
        settings = config(url, key_variable="TOY_KEY")
        _, report = texts([SESSION], settings, tmp_path)
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert "I was given Bearer [key]" in kept and KEY not in kept + str(report) + repr(settings)
    for value, said in ((f"{KEY}\nX", "several words"), ("", "is empty")):
        monkeypatch.setenv("TOY_KEY", value)
        with pytest.raises(RunError, match=said) as caught:
            rewrite([SESSION], settings, tmp_path)
        assert KEY not in str(caught.value)


CHILD = """
import sys
from uma_lib.ledger import Stream
from uma_lib.ledger.rewrite import RewriteConfig, rewrite
config = RewriteConfig(sys.argv[1], "toy", tries=1)
print(len(list(rewrite(Stream("standard", "test", 4, 1), config, sys.argv[2])[0])))
"""


def test_a_killed_run_goes_on_and_a_damaged_entry_is_asked_again(tmp_path):
    enough, over = threading.Event(), threading.Event()

    def play(body, number, _):
        if number > 20 and not over.is_set():
            enough.set()
            over.wait(20)
        return completion(good(line_of(body)))

    with server(play) as (url, bodies):
        child = subprocess.Popen([sys.executable, "-c", CHILD, url, str(tmp_path)], stdout=subprocess.PIPE)
        assert enough.wait(30)
        child.kill()
        assert child.communicate()[0] == b""
        over.set()
        kept = [json.loads(path.read_text())["request"] for path in tmp_path.rglob("*.json")]
        assert 20 - 4 <= len(kept) <= 20
        del bodies[:]
        sessions = list(Stream("standard", "test", 4, 1))
        whole, report = texts(sessions, config(url), tmp_path)
        assert not [body for body in bodies if body in kept] and report.requests == len(bodies) > 0
        first, second, third, *_ = sorted(tmp_path.rglob("*.json"))
        first.write_bytes(first.read_bytes()[:-30])
        second.write_text('{"request": {}, "reply": "other words", "finish_reason": "stop"}')
        third.write_text("null")
        repaired, report = texts(sessions, config(url), tmp_path)
    assert repaired == whole and report.requests == 3


def test_settings_are_checked():
    for settings, said in [
        ({"base_url": "http://me:hunter2@host/v1"}, "base_url holds credentials"),
        ({"base_url": "me:hunter2@host/v1"}, "base_url holds credentials"),
        ({"base_url": "http://host/v1?key=hunter2"}, "leave out everything from the first"),
        ({"base_url": "localhost:8000"}, "write it like http://localhost:8000/v1"),
        ({"kinds": ["talks"]}, "name some of purchase, answer, talk"),
        ({"parallel": 0}, "parallel is 0; it must be at least 1"),
        ({"timeout": 0.0}, "timeout must be above 0"),
    ]:
        with pytest.raises(RunError, match=said) as caught:
            check(RewriteConfig, {"base_url": "http://host/v1", "model": "toy"} | settings)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(RunError, match="session 0, turn 1: write it as"):
        utterances(Session(0, "", '[x] User said, "a"\n[x] User said, "b"', ()))
