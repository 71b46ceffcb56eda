"""The contract of engines, run on every engine that is installed and on what engines are wrapped in."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.engines import Engine, crash_record, load_engine
from edge_agent.engines.batching import Batching
from edge_agent.engines.crash_record import CrashRecord
from edge_agent.engines.failover import Candidate, Failover
from edge_agent.engines.subprocess import SubprocessEngine
from edge_agent.engines.supervised import Supervised
from edge_agent.engines.tuning import Tuning
from edge_agent.models.accelerator_choice import load_on_cpu
from edge_agent.testing.engine_contract import MODELS, EngineContract, Setup, identity

TIMEOUT = 20.0


def plain(path: Path) -> Engine:
    """In the runtime for the format, on the CPU."""
    return load_engine(identity(path), "cpu", 1)


def in_a_subprocess(path: Path) -> Engine:
    return SubprocessEngine(identity(path), "cpu", 1, TIMEOUT)


def in_a_thread(path: Path) -> Engine:
    return Supervised(lambda: plain(path), CrashRecord(uuid.uuid4().hex), TIMEOUT)


def with_failover(path: Path) -> Engine:
    first = Batching(plain(path))
    return Failover("digits", [Candidate("cpu", lambda: plain(path), lambda: None)], first, ["cpu"], {})


def in_a_pool(path: Path) -> Engine:
    return load_on_cpu(identity(path), Tuning(engines=2, threads=1))


@pytest.fixture(scope="module", autouse=True)
def _crash_records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crash_record, "_SHARED_MEMORY", tmp_path_factory.mktemp("records"))
        yield


class _OfEachFormat(EngineContract):
    load = staticmethod(plain)

    @pytest.fixture(scope="class", params=MODELS)
    @classmethod
    def setup(cls, request: pytest.FixtureRequest) -> Setup:
        return Setup(cls.load, request.param)


class TestPlain(_OfEachFormat):
    pass


class TestInASubprocess(_OfEachFormat):
    load = staticmethod(in_a_subprocess)


class TestInAThread(_OfEachFormat):
    load = staticmethod(in_a_thread)


class TestPool(_OfEachFormat):
    load = staticmethod(in_a_pool)


class TestFailover(_OfEachFormat):
    load = staticmethod(with_failover)
