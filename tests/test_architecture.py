"""Arrows only go down; the page's process stays light; importing does nothing."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*ROOT.glob("studio/**/*.py"), *ROOT.glob("apps/**/*.py"), ROOT / "app.py"])

# Lower may not import higher. A package's number counts for all in it unless a longer name is listed.
LAYERS = {
    "studio.errors": 0,
    "studio.ops": 0,
    "studio.nets": 0,
    "studio.tasks": 1,
    "studio.device": 1,
    "studio.config": 1,
    "studio.cards": 1,
    "studio.airgap": 1,
    "studio": 2,  # one outside world each: files, network, accelerator, time
    "studio.studio": 4,
    "studio.doctor": 5,
    "apps": 6,
    "app": 7,
}
HEAVY = {
    "torch", "torchvision", "diffusers", "transformers", "ultralytics", "onnxruntime", "openvino", "segment_anything",
}  # fmt: skip
FACES = {"gradio", "fastapi", "starlette", "uvicorn", "typer", "click"}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer(name: str) -> int:
    while name not in LAYERS:
        name = name.rpartition(".")[0]
    return LAYERS[name]


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Names of what a file imports; with `lazy` also inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if lazy else tree.body
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            known = {module(f) for f in FILES}
            found |= {full if (full := f"{node.module}.{alias.name}") in known else node.module for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=module)
def test_arrows_go_down(path):
    own = module(path)
    above = {
        name for name in imports(path) if name.split(".")[0] in ("studio", "apps", "app") and layer(name) > layer(own)
    }
    assert not above, f"{own} imports upwards: {above}"


def test_no_cycles():
    graph = {module(path): imports(path) & {module(f) for f in FILES} - {module(path)} for path in FILES}
    while graph:
        leaves = {name for name, targets in graph.items() if not targets & graph.keys()}
        assert leaves, f"import cycle among {sorted(graph)}"
        graph = {name: targets for name, targets in graph.items() if name not in leaves}


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(ROOT / "studio")], ids=module)
def test_only_faces_know_the_web(path):
    assert not {name.split(".")[0] for name in imports(path)} & FACES


def test_engines_are_imported_by_nobody():
    allowed = {"studio.engines.base"}
    for path in FILES:
        if not path.is_relative_to(ROOT / "studio" / "engines"):
            engines = {name for name in imports(path) if name.startswith("studio.engines.")} - allowed
            assert not engines, f"{module(path)} imports {engines}"


def test_the_page_process_imports_nothing_heavy():
    code = (
        "import json, sys, threading, socket\n"
        "import app, apps.cli, apps.shell, apps.serve, studio.studio\n"
        "print(json.dumps([sorted(sys.modules), threading.active_count()]))"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    modules, threads = json.loads(output.strip().splitlines()[-1])
    assert not HEAVY & {name.split(".")[0] for name in modules}
    assert threads == 1, "importing started a thread"


@pytest.mark.parametrize("path", FILES, ids=module)
def test_no_global_state(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)]


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=module)
def test_packages_are_empty(path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert all(isinstance(node, ast.Expr) for node in body), "import from the module that defines the name"
