"""Tables of README and docs are those of the results."""

import importlib.util
import json
from pathlib import Path

import pytest

import sklearn_recvae

PROJECT = Path(sklearn_recvae.__file__).parents[1]
SCRIPT = PROJECT / "docs" / "figures.py"
if not SCRIPT.is_file():
    pytest.skip("the docs are in a checkout only", allow_module_level=True)


@pytest.fixture
def figures():
    spec = importlib.util.spec_from_file_location("figures", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def page(figures, tmp_path, monkeypatch):
    """Give a page of a table, beside the results of one study."""
    results = {
        "made": {
            "command": "python study.py",
            "commit": "abc",
            "machine": "2 CPUs",
            "date": "2026-01-31",
        },
        "ours": {
            "setting": {"beta": 1},
            "each seed": [0.5, 0.25],
            "NDCG@100": 0.375,
            "Recall@20": 1.0,
            "Recall@50": 0.0,
            "difference": -0.125,
            "interval": 0.0625,
        },
    }
    (tmp_path / "multvae.json").write_text(json.dumps(results))
    monkeypatch.setattr(figures, "STUDIES", tmp_path)
    page = tmp_path / "page.md"
    text = (
        "Before\n<!-- figures: multvae -->\n| .9 |\n<!-- end of figures -->\nafter .9"
    )
    page.write_text(text)
    monkeypatch.setattr(figures, "pages", lambda: [page])
    return page


def test_figures_of_all_pages_are_those_of_the_results(figures, capsys):
    assert figures.main(["--check"]) == 0
    assert not capsys.readouterr().out


def test_every_table_is_on_a_page(figures):
    text = "".join(page.read_text(encoding="utf-8") for page in figures.pages())
    for name in figures.TABLES:
        assert f"<!-- figures: {name} -->" in text


def test_a_table_is_written_anew(figures, page):
    assert figures.main([]) == 0
    row = "| ours | `beta=1` | .5000 .2500 | .3750 | 1.0000 | .0000 | -.1250 ± .0625 |"
    lines = page.read_text().splitlines()
    assert lines[:2] == ["Before", "<!-- figures: multvae -->"]
    assert lines[2].startswith("|  | chosen | NDCG@100 of each seed |")
    made = "`python study.py`: commit abc, 2 CPUs, 2026-01-31."
    end = ["", made, "<!-- end of figures -->", "after .9"]
    assert lines[3:] == ["|---" * 7 + "|", row, *end]
    assert figures.main(["--check"]) == 0


def test_a_check_changes_nothing_and_fails(figures, page, capsys):
    before = page.read_text()
    assert figures.main(["--check"]) == 1
    assert page.read_text() == before
    printed = capsys.readouterr()
    assert "-| .9 |" in printed.out
    assert "python docs/figures.py" in printed.err


def test_every_result_says_how_it_was_made(figures):
    for file, data, _ in figures.TABLES.values():
        results = figures.read_results(file)
        kinds = results.values() if "made" not in results else [results]
        for result in kinds if data is None else [results[data]]:
            assert result["made"].keys() == {"command", "commit", "machine", "date"}
            assert result["made"]["command"].startswith("python examples/")
            assert "dirty" not in result["made"]["commit"]


def test_the_picture_has_all_data(figures, tmp_path):
    pytest.importorskip("matplotlib", reason="the docs draw: extra 'docs'")
    file = tmp_path / "generated" / "quality.svg"
    figures.draw(figures.read_results("baselines.json"), file)
    assert file.stat().st_size > 0


def test_unknown_figures(figures, page):
    page.write_text("<!-- figures: other -->\n<!-- end of figures -->")
    with pytest.raises(
        ValueError, match="There are no figures 'other', expected multv"
    ):
        figures.main([])
