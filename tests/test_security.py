"""Input from outside is data and never code: each test tries it."""

from __future__ import annotations

import ast
import io
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from images import image_folder
from torchvision import datasets

from ssa.data import splits
from ssa.errors import UserError
from ssa.files import read_tensors
from ssa.specs.specs import DataSpec
from ssa.store.store import Store
from ssa.study import study


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def evil(tmp_path: Path) -> tuple[bytes, Path]:
    mark = tmp_path / "was-run"
    content = pickle.dumps(Evil(mark))
    pickle.loads(content)
    assert mark.exists()  # it would work
    mark.rmdir()
    return content, mark


def test_no_code_of_ours_reads_pickles() -> None:
    files = [*(ROOT / "ssa").rglob("*.py"), *(ROOT / "docs").glob("*.py"), *(ROOT / "examples").glob("*.py")]
    assert len(files) > 40
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"} & set(names), path
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("torch.load", "pd.read_pickle"), path
                if ast.unparse(node.func) in ("np.load", "numpy.load"):
                    assert "allow_pickle=False" in [ast.unparse(word) for word in node.keywords], path
                assert ast.unparse(node.func) not in ("yaml.load", "eval", "exec", "os.system"), path
                assert not any(word.arg == "shell" for word in node.keywords), path
    print(f"read the calls and imports of {len(files)} files: none loads a pickle, or reaches a shell")


def test_a_pickle_in_the_place_of_weights_is_refused_unread(tmp_path: Path, evil: tuple[bytes, Path]) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(evil[0])
    with pytest.raises(UserError, match=r"weights\.safetensors cannot be read") as refused:
        read_tensors(path)
    print(f"a pickle as weights: {refused.value}")
    assert not evil[1].exists()


def test_a_pickle_in_the_place_of_a_record_is_refused_unread(
    tmp_path: Path, evil: tuple[bytes, Path], tiny: dict[str, Any]
) -> None:
    child, store = study.expand(tiny, Path("tiny.yaml")).children[0].spec, Store(tmp_path)
    store.record_child(child, {"result": {}})
    next((tmp_path / "children" / child.parent.id).glob("*.jsonl")).write_bytes(evil[0])
    with pytest.raises(UserError, match="is missing") as refused:
        Store(tmp_path).read_child(child)
    print(f"a pickle as a record: {refused.value}")
    assert not evil[1].exists()


def test_a_pickle_in_the_place_of_cifar_is_refused_unread(tmp_path: Path, evil: tuple[bytes, Path]) -> None:
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    for name, _ in (*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list):
        (base / name).write_bytes(evil[0])
    (base / "batches.meta").write_bytes(evil[0])
    with pytest.raises(UserError, match=r"^\S+ is damaged: it does not match its published MD5; delete") as refused:
        splits.load(DataSpec("cifar10"), tmp_path, 0)
    print(f"a pickle as CIFAR: {refused.value}")
    assert not evil[1].exists()


def test_an_archive_that_is_not_the_published_one_is_not_unpacked(
    tmp_path: Path, evil: tuple[bytes, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    root = tmp_path / "data"
    root.mkdir()
    with tarfile.open(root / datasets.CIFAR10.filename, "w:gz") as archive:
        for name in ("../escaped", "cifar-10-batches-py/data_batch_1"):
            entry = tarfile.TarInfo(name)
            entry.size = len(evil[0])
            archive.addfile(entry, io.BytesIO(evil[0]))
    with pytest.raises(UserError, match="could not be downloaded") as refused:
        splits.load(DataSpec("cifar10"), root, 0)
    print(f"another archive under the name of CIFAR's: {refused.value}")
    assert not (tmp_path / "escaped").exists()
    assert not (root / "cifar-10-batches-py").exists()
    assert not evil[1].exists()


@pytest.mark.parametrize("outside", ["../secret", "/etc", "link"])
def test_an_image_folder_cannot_lead_out_of_the_data(tmp_path: Path, outside: str) -> None:
    root = tmp_path / "data"
    image_folder(root)
    (root / "insects").rename(tmp_path / "secret")
    (root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="leads out of") as refused:
        splits.load(DataSpec("imagefolder", None, 2, folder=outside, image_size=16), root, 0)
    print(f"folder {outside}: {refused.value}")


def test_an_image_that_is_a_link_out_of_the_data_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    spec = image_folder(root)
    image = root / "insects" / "train" / "ants" / "3.png"
    image.rename(tmp_path / "secret.png")
    image.symlink_to(tmp_path / "secret.png")
    with pytest.raises(UserError, match=r"3\.png leads out of") as refused:
        splits.load(spec, root, 0)
    print(f"an image that is a link: {refused.value}")
    image.unlink()
    image.symlink_to(root / "insects" / "train" / "ants" / "2.png")
    assert len(splits.load(spec, root, 0).train) == 10


@pytest.mark.slow
def test_names_and_paths_of_a_study_never_reach_a_shell(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["parents"]["small"] |= {"seeds": [0], "epochs": 1}
    tiny["methods"] = {'a\'b $(touch c) `touch d` "e" ..f': {"law": "OneShot"}}
    tiny["blocks"] = [{"name": "$(touch g)", "parents": "small", "method": list(tiny["methods"]), "sparsity": 50}]
    tiny["data_root"] = "data $(touch h); touch i '"
    tiny["title"] = "$(touch j)"
    file = "a $(touch k) 'b' ; touch l.yaml"
    (tmp_path / file).write_text(yaml.safe_dump(tiny), encoding="utf-8")
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "results/tiny/children.csv", "--cores", "1", "--configfile"]
    run = subprocess.run(
        [sys.executable, "-m", *command, file], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr[-2000:]
    made = sorted(path.name for path in tmp_path.iterdir())
    print(f"eight commands in a study's names and paths; the whole study left {made}")
    assert made == sorted([".snakemake", file, "logs", "results"])


@pytest.mark.parametrize("name", ["../x", "$(touch x)", "a b", "a/b", ""])
def test_a_studys_name_is_a_plain_word(tiny: dict[str, Any], name: str) -> None:
    tiny["name"] = name
    with pytest.raises(UserError, match="name: ") as refused:
        study.expand(tiny, Path("tiny.yaml"))
    print(refused.value)
