import re
from pathlib import Path

import pytest

import sklearn_recvae

PROJECT = Path(sklearn_recvae.__file__).parents[1]
README = PROJECT / "README.md"
if not (README.is_file() and (PROJECT / "docs").is_dir()):
    pytest.skip("the README and the docs are in a checkout", allow_module_level=True)

TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_the_code_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in BLOCKS:
        quick = block.replace('"max_iter": 5', '"max_iter": 1')
        exec(compile(quick, str(README), "exec"), namespace)
    assert len(BLOCKS) >= 4
    assert (tmp_path / "model.safetensors").is_file()
    assert namespace["recommended"].shape == (2, 1)
    assert namespace["search"].best_score_ > 0


def test_figures_are_those_of_the_docs():
    pages = [page.read_text(encoding="utf-8") for page in PROJECT.glob("docs/*.md")]
    figures = set(re.findall(r"(?<![\d.])\.\d{3,4}\b", TEXT))
    assert len(figures) > 10
    assert [each for each in figures if not any(each in page for page in pages)] == []


def test_a_table_of_results_has_the_rows_of_the_docs():
    blending = (PROJECT / "docs" / "blending.md").read_text(encoding="utf-8")
    assert cells(TEXT, "EASE") == cells(blending, "EASE")
    assert cells(TEXT, "RecVAE") == cells(blending, "RecVAE")
    both = cells(TEXT, "RecVAE, both options beyond the paper")
    assert both == cells(blending, "RecVAE, both")
    best = cells(TEXT, "that blended with EASE")
    assert best == cells(blending, "RecVAE with both, and EASE")


def cells(page, name):
    """Give the cells of the first row of that name."""
    row = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in row.split("|")[2:-1]]


def test_install_commands_stand_as_they_are_run():
    command = 'python -m pip install -c constraints.txt ".[{}]" && python {}\n'
    assert command.format("examples", "examples/quickstart.py") in TEXT
    assert command.format("test", "-m pytest") in TEXT
