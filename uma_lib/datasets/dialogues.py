"""Accurate retrieval from conversations: LoCoMo, LongMemEval, MSC, PerLTQA and ConvoMem."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from uma_lib import metrics
from uma_lib.datasets.build import Card, HeldOut, Session, numbered
from uma_lib.datasets.source import filled, rows
from uma_lib.files import RunError
from uma_lib.ledger.files import check_shape, short
from uma_lib.sample import Question, Sample
from uma_lib.scoring import Gold, Score

UNANSWERABLE = "Not mentioned in the conversations"
_TEXT = ("f1", "exact", "rouge_l")


# --- LoCoMo -------------------------------------------------------------------------------------------------------

LOCOMO_KINDS = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
_TURN = {"speaker": str, "dia_id": str, "text": str}


class LoCoMo(HeldOut):
    """locomo10.json. With errors.json of the audit beside it, every question is scored by both golds."""

    name, family, size = "locomo", "dialogues", 10
    card = Card(
        "LoCoMo: ten very long conversations of two people",
        "snap-research/locomo, data/locomo10.json",
        "CC BY-NC 4.0: not for commercial use, and never shipped with this project",
        "A chunk a session: its date, then a line a turn, with the caption of a picture that is shared. Temporal "
        "questions ask for an approximate date. Adversarial ones give two options, what did not happen and that it is "
        "not mentioned, in an order drawn with a seed.",
        "The authors draw the order of options without a seed of their own.",
        "an independent audit (dial481/locomo-audit, CC BY-NC 4.0) finds 99 of 1,540 answers wrong and 57 citations; "
        "with its errors.json beside the data, f1_corrected scores by its answers",
        "10 samples, 199 questions each, 22k tokens, 27 chunks",
    )

    @property
    def metrics(self) -> tuple[str, ...]:
        return (*_TEXT, "f1_corrected") if self.source.has("errors.json") else _TEXT

    def make(self) -> Iterator[Sample]:
        self._corrected: dict[str, Gold] = {}
        corrections = self._corrections()
        (path,) = self.source.find("locomo10*.json", "locomo10*.json.gz")
        shape = {"sample_id": str, "conversation": {"speaker_a": str, "speaker_b": str}, "qa": [dict]}
        for where, row in rows(path, shape):
            name, session = f"{self.name}/{row['sample_id']}", Session(self.build)
            places: dict[str, tuple[int, ...]] = {}
            for number, when, turns in _locomo_sessions(row["conversation"], where):
                said = {turn["dia_id"]: _locomo_line(turn) for turn in turns}
                chunks = session.add("\n".join([f"[{when}] Session {number}", *said.values()]))
                places |= {turn: session.holding(line, chunks) for turn, line in said.items()}
            questions = [self._question(name, qa, f"{where}: qa[{n}]", places) for n, qa in enumerate(row["qa"])]
            questions = numbered(name, questions)
            for question, qa in zip(questions, row["qa"], strict=True):
                if corrected := corrections.get((qa["question"], str(qa.get("answer")))):
                    self._corrected[question.id] = Gold("text", (corrected,))
            yield Sample(name, session.chunks, questions, self.guide)

    def _question(self, name: str, qa: dict[str, Any], where: str, places: dict[str, tuple[int, ...]]) -> Question:
        check_shape(qa, {"question": str, "category": int, "evidence": list}, where)
        if qa["category"] not in LOCOMO_KINDS:
            raise RunError(f"{where}: category is {short(qa['category'])}, not one of 1 to 5")
        text, kind = filled(qa["question"], where, "question"), LOCOMO_KINDS[qa["category"]]
        if kind == "adversarial":
            options = [filled(qa.get("adversarial_answer"), where, "adversarial_answer"), UNANSWERABLE]
            right = self.build.rng(name, text).randrange(2)
            options = options if right else options[::-1]
            text += f" Choose (a) {options[0]} or (b) {options[1]}."
            gold = Gold("choice", ("ab"[right], UNANSWERABLE))
        else:
            text += " Answer with an approximate date." if kind == "temporal" else ""
            gold = Gold("text", (filled(qa.get("answer"), where, "answer"),))
        turns = re.findall(r"D\d+:\d+", " ".join(map(str, qa["evidence"])))
        evidence = sorted({k for turn in turns for k in places.get(turn, ())})
        return Question("", text, gold, kind, evidence=tuple(evidence))

    def _corrections(self) -> dict[tuple[str, str], str]:
        """Answers that the audit gives instead, by question and published answer."""
        if not self.source.has("errors.json"):
            return {}
        (path,) = self.source.find("errors.json")
        found = {}
        for _, row in rows(path, {"question": str, "golden_answer": str, "error_type": str, "correct_answer": str}):
            if metrics.words(row["correct_answer"]) != metrics.words(row["golden_answer"]):
                found[row["question"], row["golden_answer"]] = row["correct_answer"]
        return found

    def scores(self, question: Question, answer: str | None) -> tuple[Score, ...]:
        found = metrics.scores(_TEXT, question, answer)
        if len(self.metrics) == len(found):
            return found
        corrected = replace(question, gold=self._corrected.get(question.id, question.gold))
        (second,) = metrics.scores(("f1",), corrected, answer)
        return (*found, replace(second, metric="f1_corrected"))


def _locomo_sessions(conversation: dict[str, Any], where: str) -> Iterator[tuple[int, str, list[dict[str, Any]]]]:
    """Number, date and turns of every session; dates without a session are passed over."""
    numbers = sorted(int(key.partition("_")[2]) for key in conversation if re.fullmatch(r"session_\d+", key))
    if not numbers:
        raise RunError(f"{where}: conversation has no session_1")
    for number in numbers:
        key = f"session_{number}"
        check_shape(conversation[key], [_TURN], where, f"conversation.{key}")
        when = filled(conversation.get(f"{key}_date_time"), where, f"conversation.{key}_date_time")
        if conversation[key]:
            yield number, when, conversation[key]


def _locomo_line(turn: dict[str, Any]) -> str:
    caption = turn.get("blip_caption")
    shared = f" (shared a picture: {caption})" if caption else ""
    return f"{turn['speaker']}: {' '.join(turn['text'].split())}{shared}"


# --- LongMemEval --------------------------------------------------------------------------------------------------


class LongMemEval(HeldOut):
    """longmemeval_s (or _oracle, _m): a haystack of sessions and one question a sample."""

    name, family, size = "longmemeval", "dialogues", 500
    metrics = _TEXT
    card = Card(
        "LongMemEval-S: sessions of a user with an assistant, with a question a history",
        "xiaowu0162/LongMemEval; hub xiaowu0162/longmemeval-cleaned",
        "MIT",
        "A chunk a session: its date, then a line a turn. The question carries its own date. Kinds are those of the "
        "file; an id that ends in _abs is 'abstention', whose answer must say that it cannot be known.",
        "The authors never reach their own rule for abstention. Here it has one: see judge.",
        "the answers of preferences and abstentions describe what is wanted: only a judge can score them",
        "500 samples, 1 question each, 108k tokens, 48 chunks",
    )

    def make(self) -> Iterator[Sample]:
        shape = {
            "question_id": str, "question_type": str, "question": str, "question_date": str, "haystack_dates": [str],
            "haystack_session_ids": [str], "haystack_sessions": [[{"role": str, "content": str}]],
            "answer_session_ids": [str],
        }  # fmt: skip
        (path, *_) = self.source.find("longmemeval_s*.json", "longmemeval_s*.json.gz", "longmemeval_*.json")
        for where, row in rows(path, shape):
            name, session = f"{self.name}/{row['question_id']}", Session(self.build)
            parts = [row[f"haystack_{part}"] for part in ("dates", "session_ids", "sessions")]
            if len({len(part) for part in parts}) > 1:
                raise RunError(
                    f"{where}: haystack_dates, _session_ids and _sessions have lengths {list(map(len, parts))}"
                )
            evidence: tuple[int, ...] = ()
            for when, this, turns in zip(*parts, strict=True):
                lines = [f"{turn['role']}: {turn['content']}" for turn in turns]
                chunks = session.add("\n".join([f"[{when}] Session", *lines]))
                if this in row["answer_session_ids"]:
                    told = [line for line, turn in zip(lines, turns, strict=True) if turn.get("has_answer")]
                    found = {k for line in told for k in session.holding(line, chunks)} or chunks
                    evidence += tuple(sorted(found))
            abstains = row["question_id"].endswith("_abs")
            kind = "abstention" if abstains else row["question_type"]
            answer = filled(row.get("answer"), where, "answer")
            gold = Gold("rubric" if abstains or "preference" in kind else "text", (answer,))
            text = f"[{row['question_date']}] {filled(row['question'], where, 'question')}"
            yield Sample(
                name, session.chunks, (Question(f"{name}/0", text, gold, kind, evidence=evidence),), self.guide
            )


# --- MSC ----------------------------------------------------------------------------------------------------------


class MSC(HeldOut):
    """Five records of five sessions each make a sample; the question of each comes right after its sessions."""

    name, family, size = "msc", "dialogues", 100
    metrics, together = _TEXT, 5
    card = Card(
        "MSC, self-instruct: what was said in five sessions",
        "hub MemGPT/MSC-Self-Instruct (of ParlAI's MSC)",
        "Apache-2.0 as published; ParlAI's MSC is MIT",
        "A chunk a session, a line a turn. Five records follow each other; each question is asked in mid-stream, after "
        "the sessions of its record.",
        "Speakers of earlier sessions alternate; the authors give a turn that repeats an earlier one that one's "
        "speaker.",
        "the two speakers of each record have the same names as those of the next",
        "100 samples, 5 questions each, 10k tokens, 25 chunks",
    )

    def make(self) -> Iterator[Sample]:
        turns = [{"text": str}]
        shape = {
            "previous_dialogs": [{"dialog": turns}], "dialog": [{"id": str, "text": str}],
            "self_instruct": {"A": str, "B": str},
        }  # fmt: skip
        waiting: list[tuple[str, dict[str, Any]]] = []
        number = 0
        for path in self.source.find("*.jsonl", "*.jsonl.gz", "*.parquet", "*.json"):
            for found in rows(path, shape):
                waiting.append(found)
                if len(waiting) == self.together:
                    yield self._sample(number, waiting)
                    waiting, number = [], number + 1
        if waiting:
            yield self._sample(number, waiting)

    def _sample(self, number: int, records: list[tuple[str, dict[str, Any]]]) -> Sample:
        name, session, questions = f"{self.name}/{number}", Session(self.build), []
        for where, row in records:
            own: tuple[int, ...] = ()
            for dialog in row["previous_dialogs"]:
                lines = [f"Speaker {1 + k % 2}: {turn['text']}" for k, turn in enumerate(dialog["dialog"])]
                own += session.add("\n".join(lines))
            own += session.add("\n".join(f"{turn['id']}: {turn['text']}" for turn in row["dialog"]))
            if not own:
                raise RunError(f"{where}: previous_dialogs and dialog hold no turn")
            asked, answer = (filled(row["self_instruct"][part], where, f"self_instruct.{part}") for part in "BA")
            questions.append(Question("", asked, Gold("text", (answer,)), "recall", len(session.chunks), own))
        return Sample(name, session.chunks, numbered(name, questions), self.guide)


# --- PerLTQA ------------------------------------------------------------------------------------------------------


class PerLTQA(HeldOut):
    """perltmem*.json (people with events and dialogues) and perltqa*.json (questions about them)."""

    name, family, seen, size, asked = "perltqa", "dialogues", True, 4, 100
    metrics = ("keywords", "f1")
    events = 30  # of a person, at most
    card = Card(
        "PerLTQA, English: the life of a person in events and dialogues",
        "Elvin-Yiming-Du/PerLTQA, Dataset/en_v2",
        "CC BY-NC 4.0: not for commercial use, and never shipped with this project",
        "A chunk an event with its dialogues, at most 30 a person. Questions about events and dialogues; people with "
        "fewer than 20 are left out. Keywords are the memory anchors that stand in the answer.",
        "In the paper (Mem-alpha) a language model cut the answers to keywords; questions about profiles are left out "
        "there and here.",
        paper="4 samples, 100 questions each, 13k tokens, 23 chunks",
    )
    fewest = 20

    def make(self) -> Iterator[Sample]:
        (people,) = self.source.find("*perltmem*.json", "*perltmem*.json.gz")
        (asked,) = self.source.find("*perltqa*.json", "*perltqa*.json.gz")
        questions: dict[str, tuple[str, dict[str, Any]]] = {}
        for where, row in rows(asked):
            for person, found in row.items():
                check_shape(found, {}, f"{where}: {person}")
                questions[person] = f"{where}: {person}", found
        for where, row in rows(people):
            for here, who, person in _people(row, where):
                if who in questions and (sample := self._sample(who, person, here, *questions[who])):
                    yield sample

    def _sample(
        self, who: str, person: dict[str, Any], here: str, where: str, asked: dict[str, Any]
    ) -> Sample | None:  # fmt: skip
        name, session, places = f"{self.name}/{who}", Session(self.build), {}
        check_shape(person, {"events": dict, "dialogues": dict}, here)
        for event, told in list(person["events"].items())[: self.events]:
            chunks = session.add("\n".join(_event_lines(event, told, person["dialogues"], here)))
            places[event] = chunks
        questions = []
        for part in ("events", "dialogues"):
            for k, one in enumerate(_listed(asked.get(part, []), f"{where}: {part}")):
                there = f"{where}: {part}[{k}]"
                check_shape(one, {"Question": str, "Answer": str, "Reference Memory": str}, there)
                event = re.match(r"\d+_\d+", one["Reference Memory"])
                if event and event[0] in places:
                    text, answer = (filled(one[field], there, field) for field in ("Question", "Answer"))
                    gold = _anchored(answer, one.get("Memory Anchors") or [])
                    questions.append(Question("", text, gold, part, evidence=places[event[0]]))
        if len(questions) < self.fewest:
            return None
        return Sample(name, session.chunks, numbered(name, questions), self.guide)


def _people(row: dict[str, Any], where: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where a person stands, its name and what is known of it; a file is a list of people, or names with people."""
    if "profile" in row:
        check_shape(row, {"profile": {"Protagonist": str}}, where)
        yield where, row["profile"]["Protagonist"], row
        return
    for who, person in row.items():
        check_shape(person, {}, f"{where}: {who}")
        yield f"{where}: {who}", who, person


def _listed(found: Any, where: str) -> list[dict[str, Any]]:
    """Questions as a flat list; in some files they stand below the name of their memory."""
    check_shape(found, [dict], where)
    flat = []
    for one in found:
        flat += [one] if "Question" in one else [q for inner in one.values() for q in _listed(inner, where)]
    return flat


def _event_lines(event: str, told: dict[str, Any], dialogues: dict[str, Any], here: str) -> Iterator[str]:
    """An event and its dialogues, whose numbers begin with that of the event."""
    check_shape(told, {"content": str}, f"{here}: events.{event}")
    yield f"[{told.get('creation_time') or told.get('Creation Time') or 'no date'}] Event: {told['content']}"
    for number, dialogue in dialogues.items():
        if number.startswith(f"{event}_"):
            check_shape(dialogue, {"contents": dict}, f"{here}: dialogues.{number}")
            for when, said in dialogue["contents"].items():
                check_shape(said, [str], f"{here}: dialogues.{number}.contents.{when}")
                yield f"[{when}] Dialogue"
                yield from said


def _anchored(answer: str, anchors: list[dict[str, Any]]) -> Gold:
    parts = [str(key).strip() for anchor in anchors if isinstance(anchor, dict) for key in anchor]
    held = [part for part in dict.fromkeys(parts) if part and metrics.words(part)
            and f" {' '.join(metrics.words(part))} " in f" {' '.join(metrics.words(answer))} "]  # fmt: skip
    return Gold("keywords", tuple(held)) if held else Gold("text", (answer,))


# --- ConvoMem -----------------------------------------------------------------------------------------------------


class ConvoMem(HeldOut):
    """Files of mixed test cases: evidence conversations among others."""

    name, family, size = "convomem", "dialogues", 7
    metrics = _TEXT
    longest = 2_180_000  # characters that a test case must have more than
    card = Card(
        "ConvoMem: facts that users stated, among 300 conversations",
        "SalesforceAIResearch/ConvoMem; hub Salesforce/ConvoMem, core_benchmark/pre_mixed_testcases",
        "Apache-2.0 (its repository; see the data card for the data)",
        "A chunk a conversation, a line a message. Only test cases of user_evidence with more than 2,180,000 "
        "characters.",
        "nothing that is known of; files are read one after the other until there are enough test cases",
        paper="7 samples, 64 questions each, 523k tokens, 300 chunks",
    )

    def make(self) -> Iterator[Sample]:
        shape = {
            "evidenceItems": [{"question": str, "answer": str, "message_evidences": [{"text": str}]}],
            "conversations": [{"messages": [{"speaker": str, "text": str}]}],
        }  # fmt: skip
        for path in self.source.find("*user_evidence/*/*.json", "**/user_evidence/*/*.json", "*.json"):
            for number, (where, row) in enumerate(rows(path, shape)):
                said = [[f"{m['speaker']}: {m['text']}" for m in c["messages"]] for c in row["conversations"]]
                if len("\n".join(m["text"] for c in row["conversations"] for m in c["messages"])) <= self.longest:
                    continue
                name, session = f"{self.name}/{path.parent.name}-{path.stem}-{number}", Session(self.build)
                places = [(lines, session.add("\n".join(lines))) for lines in said if lines]
                questions = []
                for n, item in enumerate(row["evidenceItems"]):
                    there = f"{where}: evidenceItems[{n}]"
                    text, answer = (filled(item[part], there, part) for part in ("question", "answer"))
                    wanted = {message["text"] for message in item["message_evidences"]}
                    evidence = {
                        k for lines, chunks in places for line in lines if line.partition(": ")[2] in wanted
                        for k in session.holding(line, chunks)
                    }  # fmt: skip
                    questions.append(Question("", text, Gold("text", (answer,)), "fact", None, tuple(sorted(evidence))))
                if questions:
                    yield Sample(name, session.chunks, numbered(name, questions), self.guide)
