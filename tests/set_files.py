"""Small files in the original schemas of sets that no sample is at hand of; everything in them is made up."""

from __future__ import annotations

import json
from pathlib import Path

THINGS = ("lamp", "kettle", "radio", "heater", "fan", "door")


def write(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def nlu(folder: Path) -> None:
    """Columns of the hub's rows, with names of labels."""
    lines = ["text,scenario,label"]
    for k, thing in enumerate(THINGS):
        for n in range(12):
            lines.append(f'"please switch the {thing} on, {n}",iot,iot_{thing}_{k % 3}')
    write(folder / "nlu" / "train.csv", "\n".join(lines) + "\n")


def pubmed(folder: Path) -> None:
    """The original text: abstracts between lines with their numbers."""
    labels = ("BACKGROUND", "CONCLUSIONS", "METHODS", "OBJECTIVE", "RESULTS")
    for split, count in (("train", 40), ("test", 8)):
        lines = []
        for number in range(count):
            lines += [f"###{split}{number}", *(f"{label}\tIn {split} {number} this is a {label.lower()} sentence ."
                                               for label in labels), ""]  # fmt: skip
        write(folder / "pubmed-rct" / f"{split}.txt", "\n".join(lines))


def msc_record(k: int) -> dict:
    return {
        "personas": [["I sail."], ["I bake."]],
        "previous_dialogs": [
            {"personas": [], "dialog": [{"text": f"Hello from {k}.{n}"}, {"text": f"I have {n + k} boats."},
                                        {"text": f"Hello from {k}.{n}"}], "time_num": 2, "time_unit": "days"}
            for n in range(4)
        ],
        "dialog": [{"id": "Speaker 1", "text": f"Back again, {k}."}, {"id": "Speaker 2", "text": "So am I."}],
        "metadata": {"initial_data_id": f"valid_{k}", "session_id": 4},
        "self_instruct": {"B": f"How many boats did I have on day {k}?", "A": f"You had {k + 3} boats."},
    }  # fmt: skip


def msc(folder: Path, records: int = 12) -> None:
    lines = [json.dumps(msc_record(k)) for k in range(records)]
    write(folder / "msc" / "msc_self_instruct.jsonl", "\n".join(lines) + "\n")


def perltqa(folder: Path, questions: int = 10) -> None:
    """A list of people, and questions below their memories."""
    people, asked = [], []
    for who in ("Mei Lin", "Tom Ray"):
        events = {
            f"{k}_0": {"content": f"{who} planted {k + 2} trees in Riga.", "creation_time": f"2022-0{k + 1}-03",
                       "summary": "trees"}
            for k in range(3)
        }  # fmt: skip
        dialogues = {
            f"{k}_0_0": {"contents": {f"2022-0{k + 1}-04 10:00": [f"{who}: The {k + 2} trees grow.", "AI: Good."]}}
            for k in range(3)
        }  # fmt: skip
        people.append({"profile": {"Protagonist": who}, "social_relationship": [], "events": events,
                       "dialogues": dialogues})  # fmt: skip
        about = {
            part: [
                {f"{k}_0": [
                    {"Question": f"How many trees did {who} plant, {part} {k} {n}?",
                     "Answer": f"{who} planted {k + 2} trees in Riga.", "Reference Memory": f"{k}_0" + "_0" * (n % 2),
                     "Memory Anchors": [{f"{k + 2} trees": [1, 2]}, {"Riga": [3, 4]}, {"elsewhere": [-1, -1]}]}
                    for n in range(questions)
                ]}
                for k in range(3)
            ]
            for part in ("events", "dialogues")
        }  # fmt: skip
        about["profile"] = [{"Question": "How old?", "Answer": "40", "Reference Memory": "p", "Memory Anchors": []}]
        asked.append({who: about})
    write(folder / "perltqa" / "perltmem_en_v2.json", people)
    write(folder / "perltqa" / "perltqa_en_v2.json", asked)


def convomem(folder: Path, items: int = 2) -> None:
    """Test cases of user evidence, and of another kind that is not read."""
    cases = []
    for k in range(items):
        talk = [
            {"id": f"c{k}{n}", "containsEvidence": n == 1,
             "messages": [{"speaker": "User", "text": f"My car {n} of {k} is blue." if n == 1 else f"Rain, {k} {n}."},
                          {"speaker": "Assistant", "text": "I see."}]}
            for n in range(4)
        ]  # fmt: skip
        item = {"question": "What colour is my car?", "answer": "Blue", "category": "car", "scenario_description": None,
                "message_evidences": [{"speaker": "User", "text": f"My car 1 of {k} is blue."}],
                "conversations": [talk[1]]}  # fmt: skip
        cases.append({"evidenceItems": [item], "conversations": talk, "contextSize": 4})
    place = folder / "convomem" / "core_benchmark" / "pre_mixed_testcases"
    write(place / "user_evidence" / "1_evidence" / "batched_000.json", cases)
    write(place / "abstention_evidence" / "1_evidence" / "batched_000.json", [{"foreign": True}])


def summaries(folder: Path) -> None:
    """A row of Mem-alpha's of each further kind of gold, as Mem-alpha writes them."""
    import pandas as pd

    rows = [
        ("squad", "Who led it?", "Bohemond"), ("perltqa", "Where?", "Riga; 2 trees"),
        ("booksum", "Summarize it.", "storm, the old house"), ("pubmed-rct", "Sentence: It worked. Label?", "4"),
    ]  # fmt: skip
    frame = pd.DataFrame([
        {"instance_id": str(k), "prompt": "", "chunks": json.dumps([f"{source} text, Bohemond, Riga."]),
         "questions_and_answers": json.dumps([{"question": question, "answer": answer}]), "data_source": source,
         "metadata": "{}", "num_chunks": "1", "num_questions": "1"}
        for k, (source, question, answer) in enumerate(rows)
    ])  # fmt: skip
    (folder / "memalpha").mkdir(parents=True)
    frame.to_parquet(folder / "memalpha" / "test.parquet")
