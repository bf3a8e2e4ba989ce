"""Every script of `examples/benchmarks`, at its smallest size, and what it may call."""

import ast
import json
import re
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import load_npz, save_npz

import sklearn_recvae
from sklearn_recvae.datasets import make_interactions
from sklearn_recvae.model_selection import strong_generalization_split

PROJECT = Path(__file__).parents[1]
EXAMPLES = PROJECT / "examples"
if not EXAMPLES.is_dir():
    pytest.skip("the examples are in a checkout only", allow_module_level=True)
PACKAGE = Path(sklearn_recvae.__file__).parent

SECTIONS = {
    "step": 1,
    "peers": 1,
    "floor": 1,
    "growth": 5,
    "recommend": 1,
    "explain": 1,
    "validation": 1,
    "memory": 2,
}


def test_every_section_of_the_suite(tmp_path, run_script):
    file = tmp_path / "benchmarks.json"
    options = ["--quick", "--epinions", save(tmp_path), "--json", file]
    printed, _ = run_script("benchmarks/suite.py", *options)
    assert "sklearn_recvae, float32" in printed
    measurements = json.loads(file.read_text())["measurements"]
    for section, n_cases in SECTIONS.items():
        rows = [m["rows"] for m in measurements if m["section"] == section]
        n_precisions = len(rows) if section == "floor" else 1
        assert len(rows) == n_cases * n_precisions + (section == "memory"), section
    # Each is measured, or its package is not installed.
    for row in [row for m in measurements for row in m["rows"]]:
        assert row.get("value", 0) > 0 or row["note"] == "not installed", row

    run_script("benchmarks/plots.py", file, "--out", tmp_path / "figures")
    assert {f.name for f in (tmp_path / "figures").iterdir()} == {
        "growth.svg",
        "step.svg",
    }


def test_memory(run_script):
    printed, _ = run_script(
        "benchmarks/memory.py", "--users", 100, "--items", 50, "--k", 5
    )
    assert [line.split()[0] for line in printed.splitlines()] == [
        "load",
        "fit",
        "recommend",
    ]


def test_catalogue(tmp_path, run_script):
    file = tmp_path / "catalogue.json"
    options = ["--items", 20, "--users", 50, "--factors", 1, "--models", "EASE"]
    options += ["--json", file]
    printed, _ = run_script("benchmarks/catalogue.py", *options)
    assert printed.startswith("50 users, 20 items")
    (fit,) = json.loads(file.read_text())["fits"]
    assert (fit["model"], fit["shape"]) == ("EASE", [50, 20])
    assert fit["seconds"] > 0
    assert fit["peak_gb"] > 0


def test_catalogue_of_popular_items(tmp_path, run_script):
    options = ["--items", 20, "--factors", 1, 2, "--models", "sparse"]
    options += ["--data", save(tmp_path)]
    printed, _ = run_script("benchmarks/catalogue.py", *options)
    assert re.findall(r"users, (\d+) items", printed) == ["20", "40"]
    assert printed.count("times the peak") == 1


def test_files(run_script):
    printed, _ = run_script("benchmarks/files.py", "--items", 2000)
    assert len(printed.splitlines()) == 8
    assert "load, mmap=True" in printed


def test_batch_size(tmp_path, run_script):
    options = [save(tmp_path), "--sizes", 10, "--seeds", 0, "--max-iter", 1]
    printed, _ = run_script("benchmarks/batch_size.py", *options)
    assert "batch auto" in printed
    assert len(re.findall(r"NDCG@100 0\.\d{4}", printed)) == 2


@pytest.mark.parametrize("options", [[], ["--strings"]])
def test_encoding(options, run_script):
    printed, _ = run_script("benchmarks/encoding.py", "--events", 1000, *options)
    assert printed.startswith("1000 events to a matrix")


def test_endurance(run_script):
    printed, _ = run_script("benchmarks/endurance.py", "--fits", 5, "--recommends", 5)
    assert "5 recommendations" in printed


def test_identity(tmp_path, monkeypatch, run_script):
    file = tmp_path / "hashes.json"
    printed, _ = run_script("benchmarks/identity.py", "--quick", "--output", file)
    result = json.loads(file.read_text())
    settings = result["settings"]
    assert len(settings) == len(printed.splitlines()) >= 14
    # Which precision "auto" is depends on the processor.
    without_effect = "paper", "float32", "mixed", "validation", "resumed"
    same = {
        name
        for name, hashes in settings.items()
        if hashes["predictions"] == settings["paper"]["predictions"]
    }
    assert {"paper", "validation", "resumed"} <= same <= set(without_effect)
    assert "GLOBAL" not in printed

    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    import identity

    assert identity.compare(result, result) == []
    changed = json.loads(file.read_text())
    del changed["settings"]["EASE"]
    changed["settings"]["beta"]["partial_fit"] = "0"
    changed["circumstances"]["processor"] = "another"
    words = "processor", "beta", "EASE"
    for line, word in zip(identity.compare(result, changed), words, strict=True):
        assert line.startswith(f"different: {word}")


def test_beside_itself(run_script):
    options = ["--quick", "--repeats", 1, "--rounds", 2]
    printed, _ = run_script("benchmarks/beside.py", PROJECT, PROJECT, *options)
    lines = printed.splitlines()
    tasks = ["fit", "iteration", "predict", "recommend", "peak"]
    assert [line.split()[0] for line in lines[1:]] == tasks
    ratios = re.findall(r"ratio (\d+\.\d{3})", printed)
    assert len(ratios) == len(tasks)


def test_quality(tmp_path, run_script):
    split = strong_generalization_split(load_npz(save(tmp_path)), 10, 10)
    names = ["train", "val_fold_in", "val_held_out", "test_fold_in", "test_held_out"]
    parts = ["X_train", "X_val", "y_val", "X_test", "y_test"]
    (tmp_path / "split").mkdir()
    for name, part in zip(names, parts, strict=True):
        save_npz(tmp_path / "split" / f"{name}.npz", split[part])
    options = ["--split", tmp_path / "split", "--results", tmp_path / "results"]
    options += ["--max-iter", 2]
    printed, _ = run_script("benchmarks/quality.py", *options, "--seeds", 0)
    assert "difference to dense" in printed
    assert len(list((tmp_path / "results").iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["matrices", "--count", 8], "ValueError"),
        (["files", "--count", 12], "right digest: "),
        (["kills", "--count", 1, "--damage"], "came to its end with the same result"),
        (["interrupts", "--count", 2], "best_score_ is right|not fitted"),
        (["threads", "--seconds", 0.5], "recommend, the right list"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_faults(options, expected, run_script, start_method, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    import faults_counted

    monkeypatch.setattr(faults_counted, "START_METHOD", start_method)
    printed, _ = run_script("benchmarks/faults.py", *options)
    assert re.search(expected, printed)
    assert "WRONG" not in printed


def save(folder):
    X, _, _ = make_interactions(60, 120, mean_interactions=10, random_state=0)
    path = folder / "X.npz"
    save_npz(path, X)
    return path


def test_time_that_a_contestant_has_measured_counts(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    pytest.importorskip("psutil", reason="it watches the machine: extra 'examples'")
    import timing

    monkeypatch.setattr(timing, "SETTLING_SECONDS", 0)
    monkeypatch.setattr(timing, "TIMED_SECONDS", 0)
    make = {
        "own": partial(partial, timing.OwnTime, 1000),
        "clock": partial(partial, float, 1000),
    }
    medians = timing.time_in_turns(make, 1)["medians"]
    assert medians["own"] == 1000
    assert medians["clock"] < 1000  # a number that is no time does not count


def test_an_iteration_has_the_time_of_the_iteration_alone(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    pytest.importorskip("psutil", reason="it watches the machine: extra 'examples'")
    import ours

    X, _, _ = make_interactions(20, 30, random_state=0)
    run = ours.training_iteration(X, batch_size=10, latent_dim=4)
    start = time.perf_counter()
    seconds = run()
    assert isinstance(seconds, ours.OwnTime)
    assert 0 < seconds < time.perf_counter() - start
    assert ours.has_native_bfloat16() == ("mixed" in ours.precisions())


def test_examples_have_no_private_names():
    private = {
        name
        for file in PACKAGE.rglob("*.py")
        for name in [
            *module_names(file),
            *defined_names(ast.parse(file.read_text("utf-8"))),
        ]
        if re.match(r"_[^\W_]", name)
    }
    assert {"_hardware", "_training", "_refresh_posterior"} <= private
    # One study shows how a prior is added, which is documented.
    seam = {"_training", "_build_network", "_build_prior"}
    allowed = {EXAMPLES / "studies" / "negative_results.py": seam}
    for file in EXAMPLES.rglob("*.py"):
        used = private.intersection(used_names(ast.parse(file.read_text("utf-8"))))
        assert used <= allowed.get(file, set()), file


def module_names(file):
    return file.relative_to(PACKAGE).with_suffix("").parts


def defined_names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def used_names(tree):
    """Give the names of modules and attributes, and every string that may be one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            for path in modules + [alias.name for alias in node.names]:
                yield from path.split(".")
        elif isinstance(node, ast.Attribute):
            if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_what_readers_are_told_to_run_is_run():
    pages = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md"]
    pages += (PROJECT / "docs").glob("*.md")
    text = "".join(page.read_text("utf-8") for page in pages)
    told = set(re.findall(r"examples/([\w/]+\.py)", text))
    assert "benchmarks/memory.py" in told
    sections = set(re.findall(r"suite\.py ([a-z]+)", text))
    assert "step" in sections
    assert sections <= SECTIONS.keys()
    scripts = {
        file.relative_to(EXAMPLES).as_posix()
        for file in EXAMPLES.rglob("*.py")
        if '__name__ == "__main__"' in file.read_text("utf-8")
    }
    tests = "".join(f.read_text("utf-8") for f in Path(__file__).parent.glob("*.py"))
    run = set(re.findall(r'run_script\(\s*"([\w/]+\.py)"', tests))
    run.add("quickstart.py")  # by .ci/run, as the README has it
    assert "examples/quickstart.py" in (PROJECT / "README.md").read_text("utf-8")
    # The dense partner has no table of its own, and is what others are compared with.
    told.discard("benchmarks/dense_partner.py")
    assert told <= run
    assert scripts <= run, "nobody notices when they break"


def test_machine_is_described(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    pytest.importorskip("psutil", reason="it watches the machine: extra 'examples'")
    import machine

    described = machine.describe_machine()
    assert described["versions"]["numpy"] == np.__version__
    assert described["cores"] >= 1
