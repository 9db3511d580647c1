"""Nothing that is read can run: no pickle, no eval, no YAML that makes objects, no weights but safetensors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from package_facts import MODULES, PACKAGE, ROOT

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "telnetlib"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__",
    "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all",
    "torch.load", "torch.save", "torch.jit.load", "pandas.read_pickle",
}  # fmt: skip
ALL_FILES = [
    *MODULES,
    *sorted((ROOT / "scripts").glob("*.py")),
    *sorted((ROOT / "launch").glob("*.py")),
    ROOT / "setup.py",
]


# The tokenizer and the image processor beside a model are JSON; they have no weights.
ALLOWED = {"hub.py": ["calls auto_class.from_pretrained without use_safetensors=True"]}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def complaints(source: str) -> Iterator[str]:
    """What in a module's text could run what it reads."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        yield from (f"imports {name}" for name in names if name.partition(".")[0] in FORBIDDEN_MODULES)
        if not isinstance(node, ast.Call):
            continue
        name, keywords = dotted(node.func), {k.arg: k.value for k in node.keywords}
        if name in FORBIDDEN_CALLS:
            yield f"calls {name}"
        if name in ("np.load", "numpy.load") and not _is(keywords.get("allow_pickle"), False):
            yield "calls np.load without allow_pickle=False"
        if name.endswith("from_pretrained") and not _is(keywords.get("use_safetensors"), True):
            yield f"calls {name} without use_safetensors=True"
        if not _is(keywords.get("trust_remote_code", ast.Constant(False)), False):
            yield f"calls {name} with trust_remote_code"
        if "shell" in keywords and not _is(keywords["shell"], False):
            yield "starts a shell"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", ALL_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_runs_nothing_that_it_reads(path: Path) -> None:
    found = list(complaints(path.read_text(encoding="utf-8")))
    for allowed in ALLOWED.get(path.name, ()):
        found.remove(allowed)
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from joblib import load", "eval(text)", "yaml.load(stream)", "torch.load(path)",
        "np.load(path)", "np.load(path, allow_pickle=True)", "Model.from_pretrained(name)",
        "subprocess.run(text, shell=True)", "os.system(text)",
    ],
)  # fmt: skip
def test_the_walk_sees_what_it_should(line: str) -> None:
    assert list(complaints(line))


def test_the_packaged_models_are_safetensors_with_checksums() -> None:
    from sam_perception.segmentation.models import verify_checksums

    files = [f for f in (PACKAGE / "models").rglob("*") if f.is_file()]
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".md", ""}
    folders = {f.parent for f in files if f.suffix == ".safetensors"}
    assert folders
    for folder in folders:
        named = (folder / "SHA256SUMS").read_text()
        assert "model.safetensors" in named
        assert "config.json" in named
        verify_checksums(folder)
