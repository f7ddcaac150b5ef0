"""What the README tells people to write works as it is written."""

import re

import pytest

from uma_lib.paths import REPO

README = (REPO / "README.md").read_text()
SECTION = README.partition("## Add your own\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
FIFTEEN = 15  # lines that are not blank


def test_there_is_one_of_each_and_they_are_short():
    assert len(BLOCKS) == 5
    for block in BLOCKS:
        assert sum(bool(line.strip()) for line in block.splitlines()) <= FIFTEEN, block


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """All blocks, one after the other as somebody would type them, in a folder of their own."""
    import os

    import matplotlib

    matplotlib.use("Agg")
    folder, before, names = tmp_path_factory.mktemp("readme"), os.getcwd(), {}
    os.chdir(folder)
    try:
        for block in BLOCKS:
            exec(block, names)
    finally:
        os.chdir(before)
    return folder, names


def test_they_work_as_written(ran, capsys):
    folder, _ = ran
    assert (folder / "runs" / "weather" / "summary.json").exists()
    assert "newest" in (folder / "runs" / "newest" / "answers.csv").read_text()
    assert (folder / "runs" / "last_turn" / "model" / "model.safetensors").exists()
    assert (folder / "figures" / "interval_width.png").exists()


def test_they_keep_the_contracts(ran):
    from tests.contracts import check_dataset

    check_dataset(ran[1]["Weather"]())
