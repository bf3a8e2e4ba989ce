"""The study of time, at a tiny size."""

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from scipy.stats import t

from common import plain_ndcg
from sklearn_recvae import PopularityRecommender, RecVAERecommender
from sklearn_recvae.datasets import make_interactions

EXAMPLES = Path(__file__).parents[1] / "examples"
if not EXAMPLES.is_dir():
    pytest.skip("the examples are in a checkout only", allow_module_level=True)

NARROW = {
    "RecVAERecommender": partial(RecVAERecommender, latent_dim=2, hidden_dim=4),
    "HALF_LIVES": [30],
}


@pytest.fixture
def movielens_zip(tmp_path):
    X = make_interactions(60, 40, n_groups=2, random_state=0)[0]
    first, last = (int(datetime(y, 1, 1, tzinfo=UTC).timestamp()) for y in (2001, 2009))
    times = np.random.default_rng(0).integers(first, last, X.nnz)
    lines = [
        f"{user},{item},{3 + 2 * (time % 5 > 0)},{time}\n"
        for (user, item), time in zip(np.argwhere(X.toarray()), times, strict=True)
    ]
    header = "userId,movieId,rating,timestamp\n"
    with ZipFile(tmp_path / "movielens.zip", "w") as archive:
        archive.writestr("movielens/ratings.csv", header + "".join(lines))
    return tmp_path / "movielens.zip"


def test_temporal_goes_on_where_it_was(tmp_path, movielens_zip, run_script):
    output, results = tmp_path / "temporal.json", tmp_path / "results"
    options = ["--data", movielens_zip, "--results", results, "--output", output]
    options += ["--validation", 2003, 2004, "--test", 2005, 2006, "--max-iter", 1]
    options += ["--models", "EASE", "RecVAE"]
    printed, _ = run_script("studies/temporal.py", *options, **NARROW)
    assert printed.count("RecVAE") == 2 * 2
    assert "Split by time" in printed
    assert "Split random" in printed
    before = {file.name: file.stat().st_mtime_ns for file in results.iterdir()}
    summary = json.loads(output.read_text())
    assert summary.keys() == {"made", "by time", "random"}
    assert summary.pop("made")["command"].startswith("python examples/studies/temporal")
    for rows in summary.values():
        assert list(rows) == ["EASE", "RecVAE"]
        assert rows["EASE"]["decayed"]["half-life"] == 30
        assert rows["EASE"]["plain"]["half-life"] is None
        assert rows["EASE"]["plain"]["NDCG@100"] > 0
    again, _ = run_script("studies/temporal.py", *options, **NARROW)
    assert again == printed
    assert json.loads(output.read_text()).items() >= summary.items()
    after = {file.name: file.stat().st_mtime_ns for file in results.iterdir()}
    assert after == before


@pytest.fixture
def study(monkeypatch):
    pytest.importorskip("rich", reason="the scripts print tables: extra 'examples'")
    monkeypatch.syspath_prepend(EXAMPLES / "studies")
    import temporal

    return temporal


def test_windows_end_where_the_next_begins(study, movielens_zip, monkeypatch):
    """Popularity of one window, from the table by hand."""
    monkeypatch.setattr(study, "MIN_USERS", 1)
    table = study.read_table(movielens_zip)
    part = study.split_by_time(table, (2003, 2004), (2005, 2008))
    assert list(part.validation) == ["from 2003"]
    assert list(part.test) == ["from 2005", "from 2007"]
    split, users = part.test["from 2005"](None)
    years = table["time"].astype("datetime64[Y]").astype(int) + 1970
    liked = table["rating"] > 3.5
    now = liked & np.isin(years, (2005, 2006))
    earlier = liked & (years < 2005)
    known = np.isin(table["user"], table["user"][earlier])
    known &= np.isin(table["item"], table["item"][earlier])
    assert split.y_test.nnz == (now & known).sum()
    assert split.X_train.nnz == earlier.sum()
    assert set(users) == set(table["user"][now & known])


def test_random_split_is_the_same_for_all_half_lives(study, movielens_zip):
    table = study.read_table(movielens_zip)
    part = study.split_at_random(table)
    (validate,), (test,) = (list(splits.values()) for splits in part)
    split, users = test(None)
    other, same_users = test(30)
    assert (split.y_test > 0).nnz == (other.y_test > 0).nnz
    assert ((split.y_test > 0) != (other.y_test > 0)).nnz == 0
    assert users.tolist() == same_users.tolist()
    inner, _ = validate(None)
    # What is held out to choose by is of the training part.
    assert inner.X_train.nnz + inner.y_test.nnz <= split.X_train.nnz


def test_chosen_by_validation_and_paired_by_user(study, tmp_path, monkeypatch):
    """Of windows that are known: a user's mean, the choice, and the interval."""
    scores = {
        ("v", None): {1: 0.5},
        ("v", 10): {1: 0.1},
        ("v", 20): {1: 0.4},
        ("a", None): {7: 0.2, 8: 0.6},
        ("b", None): {7: 0.4},
        ("a", 20): {7: 0.5, 8: 0.9},
        ("b", 20): {7: 0.3},
    }

    def run_window(args, table, window, split, name, setting, half_life):
        values = scores[window, half_life]
        return {"users": list(values), study.METRIC: list(values.values())}

    monkeypatch.setattr(study, "run_window", run_window)
    monkeypatch.setattr(study, "HALF_LIVES", [10, 20])
    part = study.Part({"v": None}, {"a": None, "b": None})
    runs = study.run_model(None, None, "by time", part, "popularity")
    assert runs[True]["half-life"] == 20
    assert runs[False]["test"] == pytest.approx({7: 0.3, 8: 0.6})
    row = study.summarize({"popularity": runs})["popularity"]
    mean, half = row["decayed"]["to plain"]
    differences = [0.1, 0.3]
    assert mean == pytest.approx(np.mean(differences))
    error = np.std(differences, ddof=1) / np.sqrt(2)
    assert half == pytest.approx(t.ppf(0.975, 1) * error)


def test_popularity_by_hand(study, movielens_zip, tmp_path):
    table = study.read_table(movielens_zip)
    part = study.split_at_random(table)
    args = type("Args", (), {"results": tmp_path, "max_iter": 1})
    means = study.run(args, table, part.test, "popularity", {}, None)
    split, users = part.test["test"](None)
    ranks = PopularityRecommender().fit(split.X_train).recommend(split.X_test, k=100)
    expected = dict(zip(users.tolist(), plain_ndcg(ranks, split.y_test), strict=True))
    assert means == pytest.approx(expected, abs=1e-6)
