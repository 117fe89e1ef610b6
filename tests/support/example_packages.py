"""Installs the packages of the examples and uses them as their readers would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.places import REPOSITORY
from tests.support.running import PATIENCE_S


def install_example(name: str, folder: Path) -> Path:
    """The folder that the package was installed into; built from a copy, since a build leaves files behind."""
    source = shutil.copytree(REPOSITORY / "examples" / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(source)], check=True, timeout=PATIENCE_S)
    return folder / "site"


def run(installed: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command to its end, with the package installed."""
    environment = {**os.environ, "PYTHONPATH": f"{installed}{os.pathsep}{REPOSITORY}"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environment, cwd=REPOSITORY
    )


def run_own_tests(installed: Path, name: str) -> subprocess.CompletedProcess[str]:
    """The tests that the package brings along."""
    example = REPOSITORY / "examples" / name
    return run(installed, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(example))
