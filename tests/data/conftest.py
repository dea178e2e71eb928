"""What the tests of files and of their sources share."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import pytest
from support.idx import write


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The folder of a data root that holds all four files."""
    return write(tmp_path / "Tiny" / "raw")


@pytest.fixture(scope="session")
def torchvision_datasets() -> types.ModuleType:
    """torchvision.datasets, imported without torch's compiler: torchvision.ops takes two seconds for one name of it."""
    name = "torch._dynamo.utils"
    with pytest.MonkeyPatch.context() as patch:
        if name not in sys.modules:
            compiler = types.ModuleType(name)
            compiler.is_compile_supported = lambda device: False  # type: ignore[attr-defined]
            patch.setitem(sys.modules, name, compiler)
        return importlib.import_module("torchvision.datasets")
