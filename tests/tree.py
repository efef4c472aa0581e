"""The files of this repository, as its own tests look at them."""

import ast
import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("benchmarks", "services", "shared", "tellerline", "tests")


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file that is, or would be, committed: paths from the root, sorted."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return tuple(sorted({Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()}))


def python_files(*, tests: bool) -> tuple[Path, ...]:
    """Our Python files; those under tests/ only if asked for."""
    packages = PACKAGES if tests else tuple(name for name in PACKAGES if name != "tests")
    return tuple(path for path in files() if path.suffix == ".py" and path.parts[0] in packages)


@functools.cache
def text(path: Path) -> str:
    """What the file holds."""
    return (ROOT / path).read_text(encoding="utf-8")


@functools.cache
def tree(path: Path) -> ast.Module:
    """The file as Python sees it."""
    return ast.parse(text(path), filename=str(path))
