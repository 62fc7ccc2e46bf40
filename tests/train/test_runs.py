import json
import sqlite3
import subprocess
import sys

import pytest

from studio.config import ROOT
from studio.errors import Cancelled, InvalidTask, NotAllowed, NotFound
from studio.processes import own_mark
from studio.tasks import Train
from studio.train import adopt, recipes, record, session
from studio.train.runs import Runs
from tests.fakes import FakeReport
from tests.train.tiny import RECIPE


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", RECIPE)
    return Runs(tmp_path)


def asked(runs, **fields):
    task = Train(recipe="tiny", run="new", data="digits", **{"steps": 20, **fields})
    return task.model_copy(update={"run": runs.create(**adopt.record(task, RECIPE, "local")).id})


@pytest.fixture
def unrecorded(monkeypatch):
    monkeypatch.setattr(record, "keep", lambda *_: "")


def test_a_run_goes_from_waiting_to_finished(runs, tmp_path, unrecorded):
    task = asked(runs)
    assert runs.get(task.run).state == "waiting"
    session.train(tmp_path, task, FakeReport())
    run = runs.get(task.run)
    assert (run.state, run.step, run.total) == ("finished", 20, 20)
    assert run.pictures["train"] + run.pictures["valid"] == 1797
    assert run.best["value"] > 0
    assert runs.samples(run.id)["reconstructions"][0] == 0
    assert runs.sample(run.id, "reconstructions", 0).is_file()
    assert runs.model(run.id).is_dir()
    assert [row["step"] for row in runs.curves(run.id, since=18)] == [19, 20, 20]
    assert [one.id for one in runs.list(family="vae")] == [run.id]
    assert runs.list(family="gan") == []


def test_a_cancelled_run_is_paused_and_goes_on(runs, tmp_path, unrecorded):
    task = asked(runs)
    with pytest.raises(Cancelled):
        session.train(tmp_path, task, FakeReport(cancel_after=9))
    paused = runs.get(task.run)
    assert paused.state == "paused"
    assert runs.model(paused.id).is_dir(), "it can be opened"
    session.train(tmp_path, adopt.task_of(paused), FakeReport())
    assert runs.get(task.run).state == "finished"


def test_a_failed_run_says_why(runs, tmp_path, unrecorded):
    task = asked(runs, options={"nan_at": 5})
    with pytest.raises(Exception, match="diverged"):
        session.train(tmp_path, task, FakeReport())
    run = runs.get(task.run)
    assert run.state == "failed"
    assert "step 6" in run.message
    assert "learning rate" in run.hint


def test_a_run_whose_process_is_gone_is_interrupted(runs):
    id_ = asked(runs).run
    runs.update(id_, state="running", worker="999999:1.00")
    assert runs.get(id_).state == "interrupted"
    runs.update(id_, state="running", worker=own_mark())
    assert runs.get(id_).state == "running"
    with pytest.raises(NotAllowed):
        runs.delete(id_)


def test_two_cannot_train_one_run(runs):
    id_ = asked(runs).run
    lock = runs.begin(id_)
    with pytest.raises(NotAllowed, match="already"):
        runs.begin(id_)
    lock.release()


def test_a_deleted_run_is_gone(runs):
    id_ = asked(runs).run
    runs.update(id_, state="paused")
    runs.delete(id_)
    with pytest.raises(NotFound):
        runs.get(id_)
    assert runs.list() == []


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda record: record.replace('"steps": 20', '"steps": "x"'), "steps"),
        (lambda record: record.replace('"seed"', '"seed": [], "s"'), "seed"),
        (lambda record: record[: len(record) // 2], "damaged"),
        (lambda record: "", "damaged"),
        (lambda record: "[1]", "damaged"),
    ],
)
def test_a_damaged_record_is_shown_as_damaged_and_can_be_deleted(runs, damage, named):
    id_, other = asked(runs).run, asked(runs).run
    file = runs.folder(id_) / "run.json"
    file.write_text(damage(file.read_text()))
    run = runs.get(id_)
    assert run.state == "damaged"
    assert named in run.message
    assert {one.id for one in runs.list()} == {id_, other}
    runs.delete(id_)
    assert [one.id for one in runs.list()] == [other]


@pytest.mark.parametrize("fields", [{"minutes": "x"}, {"steps": []}, {"state": "asleep"}, {"metrics": 3}])
def test_a_wrong_value_is_refused_and_the_record_stays(runs, fields):
    id_ = asked(runs).run
    before = runs.get(id_)
    with pytest.raises(InvalidTask, match=next(iter(fields))):
        runs.update(id_, **fields)
    assert runs.get(id_) == before


@pytest.mark.parametrize("id_", ["../secret", "a/b", "", "A", "x" * 99])
def test_an_id_leads_nowhere_else(runs, id_):
    with pytest.raises(NotFound):
        runs.get(id_)


def test_many_lines_are_thinned_but_validation_stays(runs):
    id_ = asked(runs).run
    rows = [{"step": k, "seconds": k, ("valid_x" if k % 100 == 50 else "loss"): 1.0} for k in range(2000)]
    (runs.folder(id_) / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3')
    found = runs.curves(id_, most=200)
    assert len(found) < 260
    assert sum("valid_x" in row for row in found) == 20
    assert found[-1]["step"] == 1999


def test_runs_are_read_without_torch():
    code = "import sys, studio.train.runs, studio.train.recipes; assert not {'torch', 'mlflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_mlflow_keeps_numbers_settings_samples_and_the_model(runs, tmp_path, airgap):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    before = list(airgap.attempts)
    task = asked(runs)
    session.train(tmp_path, task, FakeReport())
    run = runs.get(task.run)
    assert run.mlflow
    with sqlite3.connect(tmp_path / "mlflow" / "mlflow.db") as db:
        steps = [row[0] for row in db.execute("SELECT step FROM metrics WHERE key = 'loss' ORDER BY step")]
        params = dict(db.execute("SELECT key, value FROM params"))
        (status,) = db.execute("SELECT status FROM runs WHERE run_uuid = ?", (run.mlflow,)).fetchone()
    assert steps == list(range(1, 21))
    assert (params["recipe"], params["batch"], status) == ("tiny", "8", "FINISHED")
    files = {file.name for file in (tmp_path / "mlflow" / "artifacts").rglob("*") if file.is_file()}
    assert {"model.safetensors", "config.json", "requirements.txt", "MLmodel", "00000020.png"} <= files
    assert airgap.attempts == before, "it reached for no other machine"
