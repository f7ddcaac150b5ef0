"""Test-time learning: labelled sentences stream by, then sentences without a label are classified.

Streams are drawn with a seed and class-balanced: a sentence of each class in turn, in an order drawn anew for every
round, until the stream is as long as the paper's; a class that runs out drops out. Nothing stands twice. Labels are
numbers, places in the sorted names, so that a name gives nothing away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from uma_lib.datasets.build import Card, HeldOut
from uma_lib.datasets.source import filled, first_of, lines_of, rows
from uma_lib.files import RunError
from uma_lib.sample import Question, Sample
from uma_lib.scoring import Gold

Examples = list[tuple[str, str]]  # (sentence, name of its label)
_TEXT = ("text", "sentence", "question", "utterance")
_DIFFERS = (
    "The paper takes ready streams (MemoryAgentBench by way of Mem-alpha, see memalpha) with label numbers of their "
    "own; here they are drawn from the original files, without repeating a sentence, by chunks of the model's tokens."
)
_BUILT = (
    "Sentence and label on two lines, packed into chunks; {asked} sentences of the test split are asked for their "
    "label, which is a number."
)


def asks(text: str) -> str:
    """How the label of a sentence is asked for."""
    return f"Sentence: {text}\nWhich number is the label of this sentence?"


class Labels(HeldOut):
    """What the sets of labelled sentences share. ``tokens``: of a stream and of a chunk in the paper."""

    family = "labels"
    label: ClassVar[tuple[str, ...]] = ("label_text", "label", "category", "intent")
    tokens: ClassVar[tuple[int, int]]
    size, asked = 1, 100

    def train(self) -> Examples:
        return self.examples("train.csv", "train.csv.gz", "train.jsonl", "*train*.parquet", "*/train/*.parquet")

    def test(self) -> Examples:
        return self.examples("test.csv", "test.csv.gz", "test.jsonl", "*test*.parquet", "*/test/*.parquet")

    def examples(self, *patterns: str) -> Examples:
        """The examples of some files, each sentence on one line."""
        found = []
        for path in self.source.find(*patterns):
            for where, row in rows(path):
                text = filled(first_of(row, _TEXT, where), where, "the sentence")
                found.append((" ".join(text.split()), filled(first_of(row, self.label, where), where, "the label")))
        return found

    def make(self) -> Iterator[Sample]:
        train, test = self.train(), self.test()
        names = sorted({label for _, label in train})
        if len(names) < 2:
            raise RunError(f"{self.name}: all examples have one label; get the files again")
        number = {label: str(k) for k, label in enumerate(names)}
        for place in range(self.size):
            name = f"{self.name}/{place}"
            rng = self.build.rng(name)
            stream = list(self._drawn(train, name))
            shown = {text for text, _ in stream}
            asked = [(text, label) for text, label in test if label in number and text not in shown]
            if len({number[label] for _, label in stream}) < len(names):
                short = f"a stream of {self.build.stream_tokens or self.tokens[0]} tokens has no room for every label"
                raise RunError(f"{self.name}: {short}; raise stream_tokens")
            asked = rng.sample(asked, min(len(asked), self.build.questions or self.asked))
            questions = tuple(
                Question(f"{name}/{n}", asks(text), Gold("label", (number[label], label)), "label")
                for n, (text, label) in enumerate(asked)
            )  # fmt: skip
            units = [f"Sentence: {text}\nLabel: {number[label]}\n" for text, label in stream]
            yield Sample(name, self.build.packed(units, self.tokens[1]), questions, self.guide)

    def _drawn(self, train: Examples, name: str) -> Iterator[tuple[str, str]]:
        """Examples, a round of all classes after the other, while they fit the stream."""
        rng, by_label = self.build.rng(name, "stream"), {}
        for text, label in dict(train).items():  # a sentence with two labels keeps the later one
            by_label.setdefault(label, []).append(text)
        for texts in by_label.values():
            rng.shuffle(texts)
        left = self.build.stream_tokens or self.tokens[0]
        while by_label:
            order = sorted(by_label)
            rng.shuffle(order)
            for label in order:
                text = by_label[label].pop()
                left -= self.build.count(f"Sentence: {text}\nLabel: 10\n")
                if left < 0:
                    return
                yield text, label
                if not by_label[label]:
                    del by_label[label]


class Banking77(Labels):
    name, tokens = "banking77", (128_000, 1024)
    card = Card(
        "Banking77: intents of customers of a bank, 77 labels",
        "PolyAI-LDN/task-specific-datasets; hub PolyAI/banking77",
        "CC BY 4.0",
        _BUILT.format(asked=100),
        _DIFFERS,
        "some labels are disputed (Ying and Thomas 2022)",
        "1 sample, 100 questions, 128k tokens, 111 chunks",
    )


class Clinc150(Labels):
    name, tokens = "clinc150", (131_000, 3_500)
    card = Card(
        "CLINC150: requests to an assistant, 150 labels",
        "clinc/oos-eval; hub clinc/clinc_oos",
        "CC BY 3.0",
        _BUILT.format(asked=100),
        f"{_DIFFERS} Requests out of scope are left out.",
        paper="1 sample, 100 questions, 131k tokens, 38 chunks",
    )

    def examples(self, *patterns: str) -> Examples:
        if self.source.folder is None:
            return [(text, label) for text, label in super().examples(*patterns) if label != "oos"]
        (path,) = self.source.find("data_full.json", "data_full.json.gz")
        split = "train" if "train" in patterns[0] else "test"
        ((where, found),) = rows(path, {split: [list]})
        examples = []
        for k, pair in enumerate(found[split]):
            if len(pair) != 2:
                raise RunError(f"{where}: {split}[{k}] has {len(pair)} items, not a sentence and a label")
            text, label = (filled(value, where, f"{split}[{k}]") for value in pair)
            examples.append((" ".join(text.split()), label))
        return examples


class NLU(Labels):
    """One file for all: every fifth sentence of a label, at least one, is kept for questions."""

    name, tokens, seen = "nlu", (134_000, 1_170), True
    card = Card(
        "NLU: requests to a home assistant, 68 labels",
        "xliuhw/NLU-Evaluation-Data; hub xliuhw/nlu_evaluation_data",
        "CC BY 4.0",
        _BUILT.format(asked=100),
        f"{_DIFFERS} The set has one split: a fifth of it is held out with a seed.",
        paper="1 sample, 100 questions, 134k tokens, 115 chunks",
    )
    _files = ("train.csv", "train.csv.gz", "train.jsonl", "*.parquet", "*/train/*.parquet")

    def _halves(self) -> tuple[Examples, Examples]:
        by_label: dict[str, list[str]] = {}
        for text, label in dict(self.examples(*self._files)).items():
            by_label.setdefault(label, []).append(text)
        train, test = [], []
        for label, texts in by_label.items():
            self.build.rng(self.name, "held out", label).shuffle(texts)
            held = max(1, len(texts) // 5) if len(texts) > 1 else 0
            test += [(text, label) for text in texts[:held]]
            train += [(text, label) for text in texts[held:]]
        return train, test

    def train(self) -> Examples:
        return self._halves()[0]

    def test(self) -> Examples:
        return self._halves()[1]


class TrecCoarse(Labels):
    """Lines "COARSE:fine question" in Latin-1, or rows with coarse_label and fine_label."""

    name, tokens, label, seen = "trec-coarse", (124_000, 1_120), ("coarse_label", "label-coarse"), True
    card = Card(
        "TREC: what a question asks for, 6 labels",
        "Li and Roth 2002, UIUC; hub CogComp/trec",
        "not stated",
        _BUILT.format(asked=100),
        f"{_DIFFERS} The files have 5,452 sentences, the paper's streams 6,600: there sentences must stand twice.",
        paper="1 sample, 100 questions, 124k tokens, 111 chunks",
    )

    def examples(self, *patterns: str) -> Examples:
        if self.source.folder is None:
            return super().examples(*patterns)
        train = "train" in patterns[0]
        (path,) = self.source.find(*(("train_5500.label",) if train else ("TREC_10.label",)))
        examples = []
        for number, line in enumerate(lines_of(path, "latin-1")):
            name, _, text = line.partition(" ")
            coarse, colon, _ = name.partition(":")
            if not (colon and text.strip()):
                raise RunError(f"{path}: record {number}: label is {name[:40]!r}, not COARSE:fine before a question")
            examples.append((" ".join(text.split()), coarse if self.label[0] == "coarse_label" else name))
        return examples


class TrecFine(TrecCoarse):
    name, tokens, label = "trec-fine", (126_000, 1_170), ("fine_label", "label-fine")
    card = Card(
        "TREC: what a question asks for, 50 labels",
        TrecCoarse.card.origin,
        TrecCoarse.card.licence,
        _BUILT.format(asked=100),
        TrecCoarse.card.differs.replace("6,600", "6,400"),
        paper="1 sample, 100 questions, 126k tokens, 108 chunks",
    )


class PubMedRCT(Labels):
    """The original text ("###number", then "LABEL<tab>sentence" lines), or rows."""

    name, tokens, seen, size = "pubmed-rct", (17_000, 1_700), True, 10
    label = ("label_text", "label", "labels", "target")
    card = Card(
        "PubMed-RCT: the part of an abstract that a sentence is from, 5 labels",
        "Franck-Dernoncourt/pubmed-rct; hub pietrolesci/pubmed-200k-rct",
        "no licence file",
        _BUILT.format(asked=100),
        f"{_DIFFERS} Ten streams with seeds of their own.",
        paper="10 samples, 100 questions each, 17k tokens, 10 chunks",
    )

    def examples(self, *patterns: str) -> Examples:
        split = "train" if "train" in patterns[0] else "test"
        if not self.source.has(f"{split}.txt*"):
            return super().examples(*patterns)
        (path,) = self.source.find(f"{split}.txt", f"{split}.txt.gz")
        examples = []
        for number, line in enumerate(lines_of(path)):
            if line.strip() and not line.startswith("###"):
                label, tab, text = line.partition("\t")
                if not (tab and text.strip()):
                    raise RunError(f"{path}: record {number}: {line[:40]!r} is no label with a sentence behind a tab")
                examples.append((" ".join(text.split()), label.strip()))
        return examples
