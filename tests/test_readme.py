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
