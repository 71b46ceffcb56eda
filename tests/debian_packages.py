"""What builds the Debian packages, for tests: deploy/debian/build.py, a script, as a module."""

import functools
import importlib.util
import sys
from types import ModuleType

from tests.pages import ROOT


@functools.cache
def builder() -> ModuleType:
    """The script."""
    spec = importlib.util.spec_from_file_location("build_debian", ROOT / "deploy" / "debian" / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module
