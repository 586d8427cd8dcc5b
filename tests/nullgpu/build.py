"""Build the null GPU: python build.py FOLDER. Needs g++, and a PyTorch with CUDA in the environment that runs this."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PREFIXES = (
    r"(__cuda|cuda|cublas|cudnn)\w+"  # of the functions that PyTorch's CUDA libraries import and are answered here
)


def build(folder: Path) -> dict[str, str]:
    """Build into ``folder``; returns the environment variables under which a process sees the null GPU.

    Packages are found without importing PyTorch, which would load the machine's own CUDA.
    """
    folder.mkdir(parents=True, exist_ok=True)
    site = next(path for path in map(Path, sys.path) if (path / "torch" / "lib" / "libtorch_cuda.so").exists())
    include = site / "triton" / "backends" / "nvidia" / "include"  # CUDA's own headers
    options = ["g++", "-std=c++17", "-O1", "-fPIC", f"-I{include}", f"-I{HERE}"]
    run(*options, "-c", str(HERE / "runtime.cpp"), "-o", str(folder / "runtime.o"))
    wanted = imported(sorted((site / "torch" / "lib").glob("*.so")))
    rest = wanted - defined(folder / "runtime.o")
    (folder / "rest.cpp").write_text(
        "".join(f'extern "C" int {name}() {{ return 0; }}\n' for name in sorted(rest)), encoding="utf-8"
    )
    library = folder / "libnull.so"
    run(*options, "-shared", str(folder / "runtime.o"), str(folder / "rest.cpp"), "-o", str(library), "-ldl")
    driver = ("-shared", "-Wl,-soname,libcuda.so.1", str(HERE / "driver.cpp"), "-o", str(folder / "libcuda.so.1"))
    run(*options, *driver, "-ldl")
    shutil.copy(HERE / "nullgpu.py", folder)
    return {
        "LD_PRELOAD": str(library),
        "LD_LIBRARY_PATH": str(folder),
        "PYTHONPATH": str(folder),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
    }


def imported(libraries: list[Path]) -> set[str]:
    """The functions of CUDA's libraries that ``libraries`` want from others."""
    return names("-D", "-u", *map(str, libraries))


def defined(object_file: Path) -> set[str]:
    """The functions of CUDA's libraries that ``object_file`` has."""
    return names("--defined-only", str(object_file))


def names(*options: str) -> set[str]:
    """The symbols that ``nm`` lists, as far as they are CUDA's."""
    lines = run("nm", *options).splitlines()
    symbols = (line.split()[-1].split("@")[0] for line in lines if line.strip() and not line.endswith(":"))
    return {symbol for symbol in symbols if re.fullmatch(PREFIXES, symbol)}


def run(*command: str) -> str:
    """Run ``command`` and return what it prints; what it says on failure is shown."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8").stdout


if __name__ == "__main__":
    for name, value in build(Path(sys.argv[1]).resolve()).items():
        print(f"export {name}={value}")
