"""The record of a run in MLflow: a local SQLite store under the studio's home, which a plain `mlflow ui` opens.

The run's own folder is the truth; this copies it, at the end, on a pause and after a failure, and again only what is
new. Nothing is sent anywhere: the store is a file, and telemetry is switched off before the library is imported.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from studio.train.runs import Run, Runs, read_metrics

log = logging.getLogger(__name__)

FOLDER = "mlflow"
EXPERIMENT = "image-studio"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # its page shows trainings, not prompts and judges
BATCH = 1000  # metrics in one call, the most that MLflow takes
STATES = {"finished": "FINISHED", "failed": "FAILED", "paused": "KILLED", "interrupted": "KILLED"}
NEEDED = ("torch", "numpy", "safetensors", "pillow", "pydantic", "psutil", "opencv-python")
CODE = "code.zip"  # the studio's own modules, which Python imports from as they are
_MLMODEL = """artifact_path: model
flavors:
  python_function:
    code: {code}
    env:
      virtualenv: requirements.txt
    loader_module: studio.train.served
run_id: {run}
"""
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def store(home: Path) -> str:
    """The address for `mlflow ui --backend-store-uri`."""
    return f"sqlite:///{home / FOLDER / 'mlflow.db'}"


def command(home: Path) -> str:
    """What to type to see the runs in MLflow's own page."""
    return f"mlflow ui --backend-store-uri {store(home)}"


def keep_quietly(home: Path, runs: Runs, id_: str) -> None:
    """As `keep`; where it fails the run itself is whole, so that is only logged."""
    try:
        keep(home, runs, id_)
    except Exception:  # a second copy must never cost the first
        log.warning("run %s could not be recorded in MLflow", id_, exc_info=True)


def keep(home: Path, runs: Runs, id_: str) -> str:
    """Brings the run's record in MLflow up to date and returns its id there."""
    os.environ.update(_QUIET)
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    (home / FOLDER).mkdir(parents=True, exist_ok=True)
    run = runs.get(id_)
    client = MlflowClient(tracking_uri=store(home))
    mlflow_id = run.mlflow if run.mlflow else _begin(client, home, run)
    if not run.mlflow:
        runs.update(id_, mlflow=mlflow_id)
        values = {**run.options, "recipe": run.recipe, "data": run.data, "seed": run.seed}
        params = [Param(name, str(value)[:5000]) for name, value in values.items()]
        client.log_batch(mlflow_id, params=params)
    seen = client.get_run(mlflow_id).data.tags.get("studio.logged", "-1")
    folder = runs.folder(id_)
    start = int(1000 * run.created)
    rows = [row for row in read_metrics(folder / "metrics.jsonl") if int(row["step"] or 0) > int(seen)]
    metrics = [
        Metric(name, value, start + int(1000 * float(row["seconds"] or 0)), int(row["step"] or 0))
        for row in rows
        for name, value in row.items()
        if name not in ("step", "seconds") and value is not None
    ]
    for first in range(0, len(metrics), BATCH):
        client.log_batch(mlflow_id, metrics=metrics[first : first + BATCH])
    tags = [RunTag("studio.logged", str(run.step)), RunTag("studio.state", run.state)]
    client.log_batch(mlflow_id, tags=tags)
    for name, steps in runs.samples(id_).items():
        for step in steps[-1:]:
            client.log_artifact(mlflow_id, str(runs.sample(id_, name, step)), f"samples/{name}")
    if (folder / "model" / "config.json").is_file():
        _keep_model(client, mlflow_id, run, folder / "model")
    client.set_terminated(mlflow_id, STATES.get(run.state, "FINISHED"))
    return mlflow_id


def _begin(client: Any, home: Path, run: Run) -> str:
    known = client.get_experiment_by_name(EXPERIMENT)
    place = (home / FOLDER / "artifacts").as_uri()
    experiment = (
        known.experiment_id if known else client.create_experiment(EXPERIMENT, artifact_location=place, tags=dict(KIND))
    )
    tags = {"mlflow.runName": run.id, "studio.family": run.family, "mlflow.source.name": "image-studio"}
    return str(client.create_run(experiment, start_time=int(1000 * run.created), tags=tags).info.run_id)


def _keep_model(client: Any, mlflow_id: str, run: Run, model: Path) -> None:
    """The model's files and what it needs to run elsewhere: the studio's modules, the pinned packages, its engine."""
    client.log_artifacts(mlflow_id, str(model), "model")
    client.log_text(mlflow_id, requirements(), "model/requirements.txt")
    facts = {"engine": run.family, "recipe": run.recipe, "run": run.id}
    client.log_text(mlflow_id, json.dumps(facts, indent=1), "model/studio.json")
    client.log_text(mlflow_id, _MLMODEL.format(run=mlflow_id, code=CODE), "model/MLmodel")
    with tempfile.TemporaryDirectory() as folder:
        client.log_artifact(mlflow_id, str(zip_modules(Path(folder) / CODE)), "model")


def zip_modules(file: Path) -> Path:
    """Writes the modules of `studio` into a zip that can stand on the Python path; the same bytes each time."""
    package = Path(__file__).resolve().parents[1]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for module in sorted(package.rglob("*.py")):
            entry = zipfile.ZipInfo(module.relative_to(package.parent).as_posix())
            archive.writestr(entry, module.read_bytes(), zipfile.ZIP_DEFLATED)
    return file


def requirements() -> str:
    """The packages a model needs, as pip reads them, at the versions it was made with; of which build is left open,
    since "+cpu" is on no public index."""
    return "".join(f"{name}=={importlib.metadata.version(name).partition('+')[0]}\n" for name in NEEDED)
