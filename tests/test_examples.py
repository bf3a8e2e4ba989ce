"""The examples run, and their tables are right."""

import json
import sys
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from joblib import parallel_config
from scipy.sparse import save_npz
from scipy.stats import t
from sklearn.utils import Bunch

from sklearn_recvae import (
    BlendedRecommender,
    EASERecommender,
    MultVAERecommender,
    RecVAERecommender,
    SparseEASERecommender,
)
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.metrics import catalogue_coverage_at_k, ndcg_at_k
from sklearn_recvae.model_selection import strong_generalization_split

EXAMPLES = Path(__file__).parents[1] / "examples"
if not EXAMPLES.is_dir():
    pytest.skip("the examples are in a checkout only", allow_module_level=True)


# What scripts are given in place of the estimator, since fits of full width take long.
NARROW = {"RecVAERecommender": partial(RecVAERecommender, hidden_dim=4)}
TINY = {
    "RecVAERecommender": partial(
        RecVAERecommender, latent_dim=2, hidden_dim=4, max_iter=2
    )
}


@pytest.fixture
def runs(monkeypatch):
    """Import the module that the scripts share, as they do: from their folder."""
    monkeypatch.syspath_prepend(EXAMPLES / "studies")
    import _runs

    return _runs


def times_of(folder):
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.json")}


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-20])


def test_ablation_goes_on_where_it_was(tmp_path, run_script):
    X, _, _ = make_interactions(120, 40, n_groups=2, random_state=0)
    save_npz(tmp_path / "X.npz", X)
    results = tmp_path / "results"
    options = ["--data", tmp_path / "X.npz", "--n-heldout", 20, "--seeds", 0]
    options += ["--max-iter", 1, "--results", results]
    options += ["--output", tmp_path / "ablation.png"]

    printed, _ = run_script("studies/ablation.py", *options, **NARROW)
    assert "without rescaled KL and alternating" in printed
    assert (tmp_path / "ablation.png").stat().st_size > 0
    before = times_of(results)
    assert len(before) == 12  # variants

    damaged = next(results.glob("ablation-all-0-*.json"))
    cut_short(damaged)
    before[damaged.name] = damaged.stat().st_mtime_ns
    again, progress = run_script("studies/ablation.py", *options, **NARROW)
    after = times_of(results)
    assert again == printed
    assert "damaged" in progress
    assert [name for name in before if after[name] != before[name]] == [damaged.name]
    assert after.keys() == before.keys()
    assert json.loads(damaged.read_text())["best_iteration"] == 1


def test_ablation_switches_off_what_it_says(monkeypatch):
    pytest.importorskip("matplotlib", reason="the scripts draw: extra 'examples'")
    pytest.importorskip("rich", reason="the scripts print tables: extra 'examples'")
    monkeypatch.syspath_prepend(EXAMPLES / "studies")
    import ablation

    X = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    variants = ablation.list_variants()
    models = {
        name: ablation.make_model(novelties, X, 5, 0).get_params()
        for name, novelties in variants.items()
    }
    changed = {
        name: {key for key in params if params[key] != models["all"][key]}
        for name, params in models.items()
    }
    expected = {
        "dense encoder": {"n_hidden_layers", "dense_connections"},
        "composite prior": {"prior_weights"},
        "rescaled KL": {"gamma", "beta"},
        "alternating": {"alternating", "max_iter"},
    }
    for name, novelties in variants.items():
        off = [expected[each] for each in expected if each not in novelties]
        assert changed[name] == set().union(*off), name
    assert models["none"]["beta"] == pytest.approx(0.005 * 3)
    assert models["none"]["max_iter"] == 15
    assert ablation.judge(0.2, 0.1) == "helps"
    assert ablation.judge(-0.2, 0.1) == "hurts"
    assert ablation.judge(-0.05, 0.1) == "no difference"


def test_reproduce_paper_goes_on_where_it_was(tmp_path, run_script):
    X, _, _ = make_interactions(160, 40, n_groups=2, random_state=0)
    lines = [f"{user},{item},4.0,0\n" for user, item in np.argwhere(X.toarray())]
    header = "userId,movieId,rating,timestamp\n"
    (tmp_path / "ratings.csv").write_text(header + "".join(lines))
    results = tmp_path / "results"
    options = ["--dataset", "ml-latest-small", "--data", tmp_path, "--seeds", 0]
    options += ["--results", results, "--output", tmp_path / "table.png", "--max-iter"]

    printed, _ = run_script("studies/reproduce_paper.py", *options, 1, **NARROW)
    assert "RecVAE, seed 0" in printed
    assert (tmp_path / "table.png").stat().st_size > 0
    before = times_of(results)
    assert len(before) == 3  # models

    again, _ = run_script("studies/reproduce_paper.py", *options, 1, **NARROW)
    assert again == printed
    assert times_of(results) == before

    run_script("studies/reproduce_paper.py", *options, 2, **NARROW)
    after = times_of(results)
    assert len(after) == 4  # a file beside the one of the other setting
    assert before.items() <= after.items()


def test_baselines_go_on_where_they_were(
    tmp_path, run_script, start_method, monkeypatch
):
    pytest.importorskip("psutil", reason="it watches memory: extra 'examples'")
    monkeypatch.syspath_prepend(EXAMPLES / "studies")
    from _baselines import MODELS

    tiny = {"latent_dim": 2, "hidden_dim": 4, "max_iter": 2}
    recvae = MODELS["RecVAE"]._replace(settings=[tiny])
    names = {"MODELS": {**MODELS, "RecVAE": recvae}, "START_METHOD": start_method}
    X, _, _ = make_interactions(160, 40, n_groups=2, random_state=0)
    save_npz(tmp_path / "X.npz", X)
    results = tmp_path / "results"
    options = ["--data", tmp_path / "X.npz", "--n-heldout", 20, "--seeds", 0]
    options += ["--results", results, "--output", tmp_path / "baselines.png"]
    # RecBole does not go with the other libraries. No time: one setting of each.
    options += ["--models", "EASE", "RecVAE", "CDAE", "--minutes", 0]

    printed, _ = run_script("studies/compare_baselines.py", *options, **names)
    assert "1 of 6" in printed
    assert "CDAE: not fitted." in printed
    assert (tmp_path / "baselines.png").stat().st_size > 0
    before = times_of(results)
    assert len(before) == 2

    again, _ = run_script("studies/compare_baselines.py", *options, **names)
    assert again == printed
    assert times_of(results) == before

    run = json.loads(next(results.glob("baselines-EASE-*.json")).read_text())
    assert run["setting"] == {"regularization": 100}
    split = strong_generalization_split(X, 20, 20, random_state=98765)
    model = EASERecommender(regularization=100).fit(split.X_train)
    assert run["validation"] == pytest.approx(model.score(split.X_val, split.y_val))
    score = model.score(split.X_test, split.y_test)
    assert np.mean(run["test"]["NDCG@100"]) == pytest.approx(score, abs=1e-5)
    lists = model.recommend(split.X_test, k=100)
    coverage = catalogue_coverage_at_k(lists, split.X_test.shape[1], 100)
    assert run["coverage"] == coverage
    rows = [line.split() for line in printed.splitlines()]
    (headings,) = (row for row in rows if "coverage@100" in row)
    (of_ease,) = (row for row in rows if row[:1] == ["EASE"] and "of" in row)
    # A mean has its error beside it, which has no heading.
    assert of_ease[1 + 2 * headings.index("coverage@100")] == f"{coverage:.3f}"


def test_baselines_have_the_parts_of_the_recipe(tmp_path, run_script, start_method):
    pytest.importorskip("psutil", reason="it watches memory: extra 'examples'")
    X, _, _ = make_interactions(160, 40, n_groups=2, random_state=0)
    split = strong_generalization_split(X, 20, 20, random_state=1)
    names = ["train", "val_fold_in", "val_held_out", "test_fold_in", "test_held_out"]
    parts = ["X_train", "X_val", "y_val", "X_test", "y_test"]
    for name, part in zip(names, parts, strict=True):
        save_npz(tmp_path / f"{name}.npz", split[part])
    results, summary = tmp_path / "results", tmp_path / "baselines.json"
    summary.write_text('{"other data": {"rows": []}}')
    options = ["--data", tmp_path, "--seeds", 3, "--max-iter", 1, "--minutes", 0]
    options += ["--results", results, "--output", tmp_path / "baselines.png"]
    options += ["--summary", summary, "--name", "made", "--models", "recipe", "RecVAE"]
    names = {"START_METHOD": start_method}

    printed, _ = run_script("studies/compare_baselines.py", *options, **names)
    assert f"{X.nnz} interactions. 120 users are trained on" in printed
    before = times_of(results)
    assert len(before) == 2
    again, _ = run_script("studies/compare_baselines.py", *options, **names)
    assert again == printed
    assert times_of(results) == before

    tables = json.loads(summary.read_text())
    assert list(tables) == ["other data", "made"]
    assert "compare_baselines.py" in tables["made"]["made"]["command"]
    assert tables["made"]["n_users"] == {"train": 120, "test": 20}
    rows = {row["name"]: row for row in tables["made"]["rows"]}
    part = RecVAERecommender(
        max_iter=1, ema_decay=0.8, slim_interval=10, random_state=3
    )
    models = {
        "RecVAE of the recipe": part,
        "linear part of the recipe": SparseEASERecommender(),
        "recipe": BlendedRecommender(
            [("linear", SparseEASERecommender()), ("recvae", part)]
        ),
        "RecVAE": RecVAERecommender(max_iter=1, random_state=3),
    }
    assert rows.keys() == models.keys()
    values = {}
    for name, model in models.items():
        validation = {"X_val": split.X_val, "y_val": split.y_val}
        model.fit(split.X_train, **({} if "linear" in name else validation))
        lists = model.recommend(split.X_test, k=100)
        values[name] = ndcg_at_k(split.y_test, lists, 100, average=None)
        expected = [values[name].mean(), values[name].std(ddof=1) / np.sqrt(20)]
        assert rows[name]["NDCG@100"] == pytest.approx(expected, abs=1e-4)
        assert ("seconds" in rows[name]) == (name in ("recipe", "RecVAE"))
    differences = values["RecVAE"] - values["recipe"]
    expected = [
        differences.mean(),
        t.ppf(0.975, 19) * differences.std(ddof=1) / 20**0.5,
    ]
    assert rows["RecVAE"]["difference"] == pytest.approx(expected, abs=2e-4)
    assert "difference" not in rows["recipe"]


def test_baselines_are_tuned_by_validation_alone(tmp_path, monkeypatch):
    pytest.importorskip("psutil", reason="it watches memory: extra 'examples'")
    monkeypatch.syspath_prepend(EXAMPLES / "studies")
    import compare_baselines

    X, _, _ = make_interactions(60, 40, random_state=0)
    split = strong_generalization_split(X, 10, 10, random_state=0)
    validations = [0.1, 0.3, 0.2, 0.3, 0.0, 0.1, 0.1]
    calls = []

    def fit_in_new_process(name, setting, seed, split):
        calls.append((setting, seed))
        test_ranks = np.full((split.X_test.shape[0], 100), -1)
        test_ranks[:, 0] = len(calls) - 1
        return {
            "setting": setting,
            "validation": validations[len(calls) - 1],
            "test_ranks": {name: test_ranks},
        }

    tested = []

    def evaluate(y_true, ranks):
        tested.append(ranks[0, 0])
        return {"NDCG@100": [0.5] * len(ranks)}

    monkeypatch.setattr(compare_baselines, "fit_in_new_process", fit_in_new_process)
    monkeypatch.setattr(compare_baselines, "evaluate", evaluate)
    args = Bunch(results=tmp_path, seeds=[3, 4], minutes=1, max_iter=None)
    runs = compare_baselines.run_model(args, "WMF", split)
    settings = compare_baselines.MODELS["WMF"].settings
    # The second setting is the best by validation; it alone is fitted with seed 4.
    assert calls == [*((setting, 3) for setting in settings), (settings[1], 4)]
    assert tested == [1, 6]
    assert [run["setting"] for run in runs] == [settings[1]] * 2
    assert [run["coverage"] for run in runs] == [1 / split.X_test.shape[1]] * 2


def test_baselines_have_the_same_budget(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "studies")
    import _baselines

    # What they choose, they choose inside, or they have nothing to choose.
    untuned = {"popularity", "RecVAE", "recipe", "recipe without X_val"}
    for name, model in _baselines.MODELS.items():
        assert len(model.settings) == (1 if name in untuned else 6), name
    default = RecVAERecommender().max_iter
    for name in ("RecVAE", "recipe"):
        assert _baselines.MODELS[name].settings == [{"max_iter": default}]


def test_multvae_goes_on_where_it_was(tmp_path, run_script):
    X, _, _ = make_interactions(60, 40, random_state=0)
    save_npz(tmp_path / "X.npz", X)
    results, table = tmp_path / "results", tmp_path / "table.json"
    options = ["--data", tmp_path / "X.npz", "--n-heldout", 10, "--seeds", 0, 1]
    options += ["--models", "Mult-VAE", "Mult-DAE", "--max-iter", 1]
    options += ["--results", results, "--output", table]
    names = {"MultVAERecommender": partial(MultVAERecommender, 2, hidden_dim=4)}

    printed, _ = run_script("studies/multvae.py", *options, **names)
    before, rows = times_of(results), json.loads(table.read_text())
    runs = [json.loads(file.read_text()) for file in results.glob("Mult-VAE-0-*.json")]
    setting = rows["Mult-VAE"]["setting"]
    (best,) = (run for run in runs if run["settings"]["setting"] == setting)
    # All settings are tried with the first seed, the best with the other one.
    assert best["validation"] == max(run["validation"] for run in runs)
    assert len(list(results.glob("Mult-VAE-1-*.json"))) == 1
    mean = np.mean(best["test"]["NDCG@100"])
    assert rows["Mult-VAE"]["each seed"][0] == pytest.approx(mean)
    assert f"{rows['Mult-DAE']['NDCG@100']:.4f}" in printed
    again, _ = run_script("studies/multvae.py", *options, **names)
    assert again == printed
    assert times_of(results) == before


def test_tuning_curves_go_on_where_they_were(tmp_path, run_script):
    options = ["--seeds", 0, 1, "--max-iter", 1, "--results", tmp_path / "results"]
    options += ["--output", tmp_path / "tuning.svg", "--data"]
    for seed, name in enumerate(["first", "second"]):
        X, _, _ = make_interactions(60, 30, n_groups=2, random_state=seed)
        (tmp_path / name).mkdir()
        save_npz(tmp_path / name / "interactions.npz", X)
        options.append(tmp_path / name / "interactions.npz")

    printed, _ = run_script("studies/tuning_curves.py", *options, **NARROW)
    assert "(0.5, 0.4, 0.1)" in printed
    assert (tmp_path / "tuning.svg").stat().st_size > 0
    before = times_of(tmp_path / "results")
    # One default, and 4 + 3 + 3 + 3 + 2 others: a batch of 50 is the default here.
    assert len(before) == 2 * 2 * 16

    damaged = next((tmp_path / "results").glob("tuning-first-gamma-1-*.json"))
    cut_short(damaged)
    before[damaged.name] = damaged.stat().st_mtime_ns
    again, progress = run_script("studies/tuning_curves.py", *options, **NARROW)
    after = times_of(tmp_path / "results")
    assert again == printed
    assert "damaged" in progress
    assert [name for name in before if after[name] != before[name]] == [damaged.name]
    assert after.keys() == before.keys()
    run = json.loads(damaged.read_text())
    assert np.mean(run["val"]["NDCG@100"]) == pytest.approx(run["validation"], abs=1e-6)


def test_gamma_goes_on_where_it_was(tmp_path, run_script):
    X, _, _ = make_interactions(60, 30, n_groups=2, random_state=0)
    save_npz(tmp_path / "interactions.npz", X)
    options = ["--data", tmp_path / "interactions.npz", "--n-heldout", 15]
    options += ["--seeds", 0, 1, "--max-iter", 1, "--constants", 0.1, 0.45]
    options += ["--results", tmp_path / "results", "--output", tmp_path / "gamma.svg"]
    options += ["--summary", tmp_path / "gamma.json", "--name", "made"]
    printed, _ = run_script("studies/gamma.py", *options, **NARROW)
    table = json.loads((tmp_path / "gamma.json").read_text())["made"]
    first, *others = table["rows"]
    assert first["gamma"] == 0.005
    assert "difference" not in first
    constants = [row["gamma"] * table["mean_interactions"] for row in others]
    assert constants == pytest.approx([0.1, 0.45])
    means = [row["NDCG@100"][0] - first["NDCG@100"][0] for row in others]
    assert [row["difference"][0] for row in others] == pytest.approx(means)
    assert (tmp_path / "gamma.svg").stat().st_size > 0
    before = times_of(tmp_path / "results")
    assert len(before) == 3 * 2
    # The test users are not touched.
    for file in (tmp_path / "results").iterdir():
        assert "test" not in json.loads(file.read_text())
    again, _ = run_script("studies/gamma.py", *options, **NARROW)
    assert again == printed
    assert times_of(tmp_path / "results") == before


def test_quickstart_tells_what_it_does(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="the scripts draw: extra 'examples'")
    monkeypatch.syspath_prepend(EXAMPLES)
    import quickstart

    X, _, _ = make_interactions(100, 120, n_groups=2, random_state=0)
    lines = [f"{user},{item},4.0,0\n" for user, item in np.argwhere(X.toarray())]
    header = "userId,movieId,rating,timestamp\n"
    (tmp_path / "ratings.csv").write_text(header + "".join(lines))
    tiny = {"latent_dim": 2, "hidden_dim": 4, "max_iter": 2}
    monkeypatch.setattr(quickstart, "SMALL_SETTING", tiny)
    monkeypatch.setattr(
        quickstart, "RecVAERecommender", partial(RecVAERecommender, **tiny)
    )
    options = ["--data", str(tmp_path), "--output", str(tmp_path / "curve.png")]
    monkeypatch.setattr(sys, "argv", ["quickstart.py", *options])
    with parallel_config("threading"):
        quickstart.main()
    printed, progress = capsys.readouterr()
    assert progress.count("Done") > 3
    assert f"Done {4 * quickstart.N_FOLDS:3d} out of" in progress
    assert "iteration 2/2" in printed
    assert "kept iteration" in printed
    assert (tmp_path / "curve.png").stat().st_size > 0


def test_growing(tmp_path, run_script):
    X, _, _ = make_interactions(60, 40, n_groups=2, random_state=0)
    # The last users are new, and so are the last items.
    lines = [
        f"{user},{item},4.0,{item + 100 * (user >= 40)}\n"
        for user, item in np.argwhere(X.toarray())
    ]
    header = "userId,movieId,rating,timestamp\n"
    with ZipFile(tmp_path / "movielens.zip", "w") as archive:
        archive.writestr("movielens/ratings.csv", header + "".join(lines))
    options = ["--data", tmp_path / "movielens.zip", "--seeds", 0, "--share", 0.3]
    options += ["--max-iter", 1, "--more", 1, 2]
    printed, _ = run_script("studies/growing.py", *options, **NARROW)
    for name in ("before", "1 more", "2 more", "fitted anew"):
        assert name in printed


def test_run_is_kept_with_its_settings(tmp_path, runs, capsys):
    calls = []

    def compute():
        calls.append(1)
        return {"test": [0.5, len(calls)]}

    settings = {"prior": (1, 0, 0), "seed": 0}
    first = runs.load_or_compute(tmp_path, "name", settings, compute)
    assert runs.load_or_compute(tmp_path, "name", settings, compute) == first
    assert len(calls) == 1
    (file,) = tmp_path.iterdir()  # no temporary file is left
    assert json.loads(file.read_text()) == first

    runs.load_or_compute(tmp_path, "name", {**settings, "seed": 1}, compute)
    assert len(calls) == 2
    assert len(list(tmp_path.iterdir())) == 2

    cut_short(file)
    assert runs.load_or_compute(tmp_path, "name", settings, compute)["test"][1] == 3
    file.write_text(json.dumps({**first, "settings": {"seed": 5}}))
    assert runs.load_or_compute(tmp_path, "name", settings, compute)["test"][1] == 4

    file.write_text(json.dumps({**first, "versions": {"python": "2.7"}}))
    capsys.readouterr()
    assert runs.load_or_compute(tmp_path, "name", settings, compute)["test"][1] == 1
    assert "2.7" in capsys.readouterr().err


def test_interrupted_run_leaves_nothing(tmp_path, runs):
    def compute():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.load_or_compute(tmp_path, "name", {}, compute)
    assert list(tmp_path.iterdir()) == []


def test_batch_size_is_that_of_the_estimator(runs):
    X, _, _ = make_interactions(1700, 20, random_state=0)
    model = TINY["RecVAERecommender"](max_iter=1, n_encoder_epochs=1, random_state=0)
    auto = model.fit(X).predict(X)
    size = runs.auto_batch_size(1700)
    assert np.array_equal(model.set_params(batch_size=size).fit(X).predict(X), auto)
    model.set_params(batch_size=size - 1)
    assert not np.array_equal(model.fit(X).predict(X), auto)
    assert [runs.auto_batch_size(n) for n in (1, 1599, 20_000)] == [50, 50, 500]


def test_fingerprint_tells_splits_apart(runs):
    X, _, _ = make_interactions(30, 20, random_state=0)
    names = ["X_train", "X_val", "y_val", "X_test", "y_test"]
    split = Bunch(**dict.fromkeys(names, X))
    first = runs.fingerprint(split)
    assert runs.fingerprint(Bunch(**dict.fromkeys(names, X.copy()))) == first
    assert first["X_val"]["shape"] == [30, 20]
    for attribute in ("data", "indices"):
        other = X.copy()
        getattr(other, attribute)[0] += 1
        assert runs.fingerprint(Bunch(**{**split, "y_test": other})) != first


def test_evaluation_of_each_user(runs):
    y_true = np.array([[0, 1, 0, 1], [1, 0, 0, 0]])
    ranks = np.array([[1, 0, 3], [2, 1, -1]])
    values = runs.evaluate(y_true, ranks)
    assert values["NDCG@100"] == pytest.approx(
        ndcg_at_k(y_true, ranks, 100, average=None), abs=1e-6
    )
    assert values["Recall@20"] == [1, 0]


def test_paired_interval_by_hand(runs):
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((2, 3, 40))  # seeds, users
    as_runs = [[{"test": {"m": v.tolist()}} for v in each] for each in (ours, theirs)]
    mean, half = runs.paired_difference(
        *(runs.mean_over_seeds(each, "m") for each in as_runs)
    )
    d = (ours - theirs).sum(axis=0) / 3
    variance = ((d - d.sum() / 40) ** 2).sum() / 39
    assert mean == pytest.approx(d.sum() / 40)
    assert half == pytest.approx(t.ppf(0.975, 39) * np.sqrt(variance / 40))
    assert t.ppf(0.975, 39) == pytest.approx(2.0227, abs=1e-4)  # as in tables


def test_one_user_has_no_error(runs):
    with pytest.raises(ValueError, match="1 test user is left, expected at least 2"):
        runs.mean_and_error(np.array([0.5]))
