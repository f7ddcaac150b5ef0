"""The sets by name, and where each of them comes from."""

from __future__ import annotations

from pathlib import Path

from uma_lib.datasets.build import Build, HeldOut
from uma_lib.datasets.dialogues import MSC, ConvoMem, LoCoMo, LongMemEval, PerLTQA
from uma_lib.datasets.documents import HotpotQA, SQuAD
from uma_lib.datasets.labels import NLU, Banking77, Clinc150, PubMedRCT, TrecCoarse, TrecFine
from uma_lib.datasets.processed import LedgerFiles, Memalpha, MemoryAgentBench
from uma_lib.datasets.source import Source
from uma_lib.files import RunError
from uma_lib.parameters import unknown

# the paper's sets besides Ledger-QA, in its order; then the processed forms
SETS: dict[str, type[HeldOut]] = {
    kind.name: kind
    for kind in (
        Banking77, Clinc150, NLU, TrecCoarse, TrecFine, PubMedRCT, ConvoMem, HotpotQA, LoCoMo, LongMemEval, MSC,
        PerLTQA, SQuAD, LedgerFiles, Memalpha, MemoryAgentBench,
    )
}  # fmt: skip
PARQUET = "refs/convert/parquet"  # a branch that the hub itself makes of sets that are published with a script
HUBS: dict[str, tuple[str, str | None]] = {  # repository and revision; none of them could be looked at from here
    "banking77": ("PolyAI/banking77", PARQUET),
    "clinc150": ("clinc/clinc_oos", None),
    "nlu": ("xliuhw/nlu_evaluation_data", PARQUET),
    "trec-coarse": ("CogComp/trec", PARQUET),
    "trec-fine": ("CogComp/trec", PARQUET),
    "pubmed-rct": ("pietrolesci/pubmed-200k-rct", "8990ad31a48c6e5a09dadfc70b7328e3f139a54d"),
    "convomem": ("Salesforce/ConvoMem", None),
    "hotpotqa": ("BytedTsinghua-SIA/hotpotqa", None),
    "longmemeval": ("xiaowu0162/longmemeval-cleaned", None),
    "msc": ("MemGPT/MSC-Self-Instruct", None),
    "squad": ("rajpurkar/squad", None),
    "memalpha": ("YuWangX/Memalpha", None),
    "memoryagentbench": ("ai-hyz/MemoryAgentBench", None),
}
FOLDERS = {"trec-coarse": "trec", "trec-fine": "trec"}  # of sets that share their files


def load_set(name: str, folder: str | Path = "", build: Build | None = None, revision: str | None = None) -> HeldOut:
    """A set by its name.

    folder: where sets lie, each in a folder of its name (`FOLDERS`); one that has none there is taken from the hub, if
    it is on the hub. A name such as ``memalpha:squad,perltqa`` takes some sources of a processed form. revision: of the
    hub's repository, instead of the one in `HUBS`.

    >>> load_set("banking78")
    Traceback (most recent call last):
    ...
    uma_lib.files.RunError: unknown data set 'banking78'; did you mean 'banking77'?
    """
    base, _, only = name.partition(":")
    if base not in SETS:
        raise RunError(unknown("data set", base, SETS))
    kind = SETS[base]
    hub, known = HUBS.get(base, ("", None))
    place = FOLDERS.get(base, base)
    here = Path(folder) if folder and (not hub or (Path(folder) / place).is_dir()) else None
    source = Source(place, here, hub, revision or known)
    if not only:
        return kind(source, build)
    if base not in ("memalpha", "memoryagentbench"):
        raise RunError(f"{name}: only memalpha and memoryagentbench hold several sources")
    return kind(source, build, tuple(part.strip() for part in only.split(",")))
