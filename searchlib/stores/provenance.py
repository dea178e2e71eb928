"""Where a result comes from: code, versions, machine, time."""

from __future__ import annotations

import os
import subprocess
import time


def git_state() -> tuple[str | None, bool]:
    """(commit, whether the tree differs from it) of the working folder; (None, False) outside git."""

    def git(*arguments: str) -> str | None:
        try:
            # without its lock git doesn't write its index, which may be in a folder above this one
            done = subprocess.run(
                ("git", "--no-optional-locks", *arguments), capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return commit, bool(commit and git("status", "--porcelain", "--untracked-files=no"))


def code_version() -> str:
    """searchlib's version and, in a git working folder, the commit, marked where files differ from it."""
    from importlib.metadata import version

    commit, dirty = git_state()
    return f"searchlib {version('searchlib')}" + (f", {commit[:12]}{' (changed)' if dirty else ''}" if commit else "")


def environment() -> dict[str, str]:
    """The versions of the libraries and the machine, as tags."""
    import platform
    from importlib import metadata

    import torch

    packages = ("searchlib", "torch", "torchvision", "optuna", "mlflow", "numpy")
    versions = {f"version.{name}": metadata.version(name) for name in packages}
    return {
        **versions,
        "version.python": platform.python_version(),
        "platform": platform.platform(),
        "threads": str(torch.get_num_threads()),
        "cores": str(os.cpu_count()),
    }


def now() -> str:
    """The time as the stores show it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
