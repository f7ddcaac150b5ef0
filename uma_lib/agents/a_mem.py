"""A-MEM: notes that are linked to the nearest ones, which evolve with them (Xu et al., arXiv 2502.12110).

Each chunk becomes a note: the model gives it keywords, a context and tags. The note is linked to the `LINKS` nearest
notes by the meaning of all of it, and the model may give these a new context and new tags in the light of it. A
question is answered from the `TOP_K` nearest notes and the notes that they are linked to, as far as they fit.

Deviations: a note is a chunk, not a turn of a dialogue, since a note costs two turns of the model; the nearest notes
are all linked, without asking the model which; a note that evolves is still found by what it was when it came.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from uma_lib.agents.agent import Setting, Trace, answer_in, ask_once, said_in
from uma_lib.agents.readers import ANSWER_TOKENS, most
from uma_lib.engines.protocol import Dialogue, Message
from uma_lib.files import RunError, atomic_write_json, read_json
from uma_lib.lenient import Unreadable, read
from uma_lib.retrieval import Dense

LINKS = 5  # notes that a new one is linked to
TOP_K = 10  # notes that are looked up for a question
NOTE_TOKENS = 256  # to describe a note in
EVOLVE_TOKENS = 512  # to describe its neighbours anew in

DESCRIBE = (
    "You keep notes of a long stream. Describe the new note as a JSON object: keywords, a list of the words that "
    "matter most; context, one sentence on what it is about; tags, a list of broad topics. Write the object alone."
)
EVOLVE = (
    "You keep notes of a long stream. A new note came in. Below it are the notes nearest to it. Where the new note "
    "changes what one of them means, give that one a new context and new tags. Write a JSON list of objects with "
    "number, context and tags, one for each note that changes; [] if none does. Write the list alone."
)


@dataclass
class Note:
    content: str
    keywords: list[str] = field(default_factory=list)
    context: str = ""
    tags: list[str] = field(default_factory=list)
    links: list[int] = field(default_factory=list)  # numbers of notes

    @property
    def text(self) -> str:
        """All of it, as it is read and found."""
        told = [f"{name}: {value}" for name, value in
                (("context", self.context), ("keywords", ", ".join(self.keywords)), ("tags", ", ".join(self.tags)))
                if value]  # fmt: skip
        return "\n".join([self.content, *told])


class AMem:
    """``notes`` may be looked at; a session that raises leaves them as they were."""

    def __init__(self, setting: Setting):
        if setting.encode is None:
            raise ValueError("A-MEM links notes by meaning: give the setting an encoder")
        self.setting = setting
        self.notes: list[Note] = []
        self._index = Dense(setting.encode)
        self._found_by: list[str] = []  # the text of each note when it came

    def observe(self, chunk: str) -> Dialogue[Trace]:
        setting, number = self.setting, len(self.notes)
        about = setting.guide.about
        messages = [{"role": "system", "content": DESCRIBE + (f" {about}" if about else "")},
                    {"role": "user", "content": f"New note:\n{chunk}"}]  # fmt: skip
        first = yield from ask_once(setting, "memory", messages, NOTE_TOKENS, "memory", number, "note")
        said = next(iter(objects_in(said_in(first))), {})
        note = Note(chunk, texts(said.get("keywords")), text(said.get("context")), texts(said.get("tags")))
        note.links = [place for place, _ in self._index.search(note.text, LINKS)]
        changes, trace = {}, first
        if note.links:
            messages = self._evolving(note)
            trace = yield from ask_once(setting, "memory", messages, EVOLVE_TOKENS, "memory", number, "neighbours")
            trace.parts = [first]
            changes = {place: one for one in objects_in(said_in(trace))
                       if (place := whole(one.get("number"))) in note.links}  # fmt: skip
        for place, one in changes.items():
            old = self.notes[place]
            old.context, old.tags = text(one.get("context")) or old.context, texts(one.get("tags")) or old.tags
        self._put(note, note.text)
        return trace

    def _evolving(self, note: Note) -> list[Message]:
        """The prompt about a note and its neighbours, the nearest first, as many as fit."""
        setting = self.setting

        def opening(count: int) -> list[Message]:
            near = "\n\n".join(f"Note {place}:\n{self.notes[place].text}" for place in note.links[:count])
            return [{"role": "system", "content": EVOLVE},
                    {"role": "user", "content": f"New note:\n{note.text}\n\n{near}"}]  # fmt: skip

        room = setting.limits.session_tokens - EVOLVE_TOKENS
        return opening(most(0, len(note.links), lambda count: setting.size(opening(count), None) <= room))

    def _put(self, note: Note, found_by: str) -> None:
        self.notes.append(note)
        self._found_by.append(found_by)
        self._index.add([found_by])

    def answer(self, question: str, key: str = "") -> Dialogue[Trace]:
        setting = self.setting
        near = [place for place, _ in self._index.search(question, TOP_K)]
        found = list(dict.fromkeys([*near, *(link for place in near for link in self.notes[place].links)]))

        def opening(count: int) -> list[Message]:
            shown = "\n\n".join(self.notes[place].text for place in sorted(found[:count]))
            return [{"role": "system", "content": setting.guide.reading},
                    {"role": "user", "content": f"Notes:\n{shown or '(none)'}\nQuestion: {question}"}]  # fmt: skip

        room = setting.limits.session_tokens - ANSWER_TOKENS
        count = most(0, len(found), lambda count: setting.size(opening(count), None) <= room)
        trace = yield from ask_once(
            setting, "question", opening(count), setting.limits.turn_tokens, "question", key or question
        )
        trace.answer, trace.shown = answer_in(trace), [self.notes[place].text for place in sorted(found[:count])]
        return trace

    def save(self, folder: Path) -> None:
        """Write ``notes.json``."""
        notes = [asdict(note) for note in self.notes]
        atomic_write_json(Path(folder) / "notes.json", {"notes": notes, "found_by": self._found_by})

    def load(self, folder: Path) -> None:
        path = Path(folder) / "notes.json"
        self.notes, self._found_by, self._index = [], [], Dense(self.setting.encode)
        try:
            found = read_json(path)
            for note, found_by in zip(found["notes"], found["found_by"], strict=True):
                self._put(Note(**note), found_by + "")
        except (LookupError, TypeError, ValueError) as error:
            raise RunError(f"{path}: not the notes of this agent; restore the file") from error


def objects_in(said: str) -> list[dict]:
    """The JSON objects in what a model said; none where they cannot be read.

    >>> objects_in('Here: [{"number": 3, "tags": ["a"],}]'), objects_in("no")
    ([{'number': 3, 'tags': ['a']}], [])
    """
    try:
        return [value for value in read(said) if isinstance(value, dict)]
    except Unreadable:
        return []


def text(value: object) -> str:
    return " ".join(str(value).split()) if isinstance(value, str | int) else ""


def texts(value: object) -> list[str]:
    """A list of texts, or one text with commas, as a list without blanks."""
    found = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return [one for one in map(text, found) if one]


def whole(value: object) -> int | None:
    return int(value) if isinstance(value, int) or isinstance(value, str) and value.strip().isdecimal() else None
