"""The wheel and the sdist, installed into an empty environment with each extra: what they bring, and that they work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).with_name("uv")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (UV.exists() and (ROOT / ".git").exists()), reason="needs a checkout, and uv as of make setup"
    ),
]

# Data without scikit-learn, which the library alone does not bring.
DIGITS = "x, y = load_digits(return_X_y=True)\n"
NOISE = "x, y = torch.rand(256, 64).numpy() * 16, torch.randint(0, 10, (256,)).numpy()\n"
ASKED = """
import importlib.util, json, sys
zeros = sum(int((weight == 0).sum()) for weight in plain.parameters())
found = {name: importlib.util.find_spec(name) is not None for name in sys.argv[1:]}
fresh = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
loaded = ssa.load("child.safetensors", fresh)
same = all(torch.equal(a, b) for a, b in zip(loaded.parameters(), plain.parameters(), strict=True))
print(json.dumps({"zeros": zeros, "same": same, "found": found, "file": ssa.__file__}))
"""
BRINGS = {
    "": set(),
    "study": {"snakemake", "pandas", "timm", "torchvision", "wandb", "sklearn", "matplotlib"},
    "hf": {"transformers", "accelerate"},
    "lightning": {"lightning"},
}
EVERYTHING = set().union(*BRINGS.values())
INTEGRATIONS = {"hf": ["transformers", "accelerate"], "lightning": ["lightning"]}


def run(*command: object, cwd: Path, code: int = 0, **more: str) -> str:
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")} | more
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=own, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the wheel and the sdist of what git has are, and the sdist unpacked."""
    folder = tmp_path_factory.mktemp("built")
    for name in run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / "source" / name)
    run(UV, "build", "--quiet", "--out-dir", folder, folder / "source", cwd=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return {"wheel": wheel, "sdist": sdist, "unpacked": folder / sdist.name.removesuffix(".tar.gz")}


class Environment:
    """An empty environment, always at the same place, so that PyTorch's byte code serves all."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bytecode = folder / "environment", folder / "bytecode"

    def install(self, package: Path, extra: str) -> None:
        run(UV, "venv", "--quiet", "--clear", "--python", sys.executable, self.folder, cwd=self.folder.parent)
        wanted = f"{package}[{extra}]" if extra else str(package)
        pins = ROOT / "requirements.txt"  # the versions that are here already
        python = self.folder / "bin" / "python"
        run(UV, "pip", "install", "--quiet", "--python", python, "-c", pins, wanted, cwd=self.folder.parent)

    def run(self, name: str, *arguments: object, cwd: Path, code: int = 0) -> str:
        own = {"PYTHONPYCACHEPREFIX": str(self.bytecode)}
        return run(self.folder / "bin" / name, *arguments, cwd=cwd, code=code, **own)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("installed"))


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
@pytest.mark.parametrize("extra", BRINGS)
def test_an_install_brings_its_extra_and_runs_the_readmes_example(
    kind: str, extra: str, built: dict[str, Path], environment: Environment, tmp_path: Path
) -> None:
    environment.install(built[kind], extra)
    example = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    if "sklearn" not in BRINGS[extra]:
        first = next(line for line in example.splitlines(keepends=True) if "sklearn" in line)
        example = example.replace(first, "").replace(DIGITS, NOISE)
        assert NOISE in example
    (tmp_path / "example.py").write_text(example + ASKED, encoding="utf-8")
    said = json.loads(environment.run("python", "example.py", *sorted(EVERYTHING), cwd=tmp_path).splitlines()[-1])
    assert said["zeros"] >= round(0.95 * 64 * 256)
    assert said["same"]
    assert Path(said["file"]).is_relative_to(environment.folder)
    assert {name for name, found in said["found"].items() if found} >= BRINGS[extra]
    if not extra:
        assert not any(said["found"].values())
        lacking = environment.run("ssa", "status", "config/demo.yaml", cwd=built["unpacked"], code=2)
        assert lacking.endswith("is not installed: pip install '.[study]' in a checkout\n")
    assert (Path(said["file"]).parent / "py.typed").exists()
    assert environment.run("ssa", "--version", cwd=tmp_path).startswith("ssa ")
    for name in INTEGRATIONS.get(extra, ()):
        environment.run("python", "-c", f"import ssa.integrations.{name}", cwd=tmp_path)
    if extra == "study":
        assert "demo" in environment.run("ssa", "status", "config/demo.yaml", cwd=built["unpacked"])


def test_the_sdist_tests_itself(built: dict[str, Path], environment: Environment) -> None:
    environment.install(built["sdist"], "study,dev")
    files = [f"tests/method/test_{name}.py" for name in ("laws", "sampling", "saving")]
    said = environment.run("python", "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *files, cwd=built["unpacked"])
    assert " failed" not in said
    assert "[100%]" in said
