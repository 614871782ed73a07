"""Date, commit, machine and versions that belong to every measurement."""

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """Date, commit, machine and versions."""
    packages = ("tensorflow", "keras", "numpy", "pyarrow", "pandas")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def _commit() -> str:
    """The commit, with `-dirty` where files differ from it; `unknown` without git or outside a repository."""
    if shutil.which("git") is None:
        return "unknown"
    command = ["git", "describe", "--always", "--dirty"]
    output = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return output.stdout.strip() or "unknown"
