"""One signed release for a fleet of different chips: what each device downloads, and what it serves."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent import settings
from edge_agent.errors import ReleaseError
from edge_agent.models import archive, bundle
from edge_agent.models import model as models
from edge_agent.models.predictor import Predictor
from edge_agent.models.shipped import shipped
from edge_agent.models.split import split
from edge_agent.models.variants import wanted
from edge_agent.preprocess.files import read_file
from edge_agent.release.repository import SignedRepository
from edge_agent.system import chips
from edge_agent.update.releases import Release, choose, of_machine
from edge_agent.update.repository import Repository
from edge_agent.update.store import Store
from tests.modelfile.hef_bytes import hef
from tests.modelfile.rknn_bytes import rknn
from tests.stand_ins import interpreter
from tests.stand_ins.control import Control
from tests.update.kit import WebServer, ask

DIGITS = shipped("digits")
PICTURE = DIGITS / "golden" / "5_printed.png"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SignedRepository, WebServer, Path]]:
    """A repository on a web server, with a release of four variants."""
    folder = tmp_path_factory.mktemp("repository")
    repository = SignedRepository(folder, ask)
    repository.init()
    made = four(tmp_path_factory.mktemp("bundle") / "digits")
    manifest = bundle.read_manifest(made)
    scratch = tmp_path_factory.mktemp("scratch")
    repository.add(split(made, manifest, scratch, made), "digits", manifest.version, 10_000, [])
    with WebServer(folder) as server:
        yield repository, server, made


def four(folder: Path, **entries: Any) -> Path:
    """The bundled digit reader for a Hailo-8, an 8L, an RK3588 and the CPU."""
    shutil.copytree(DIGITS, folder, ignore=shutil.ignore_patterns("*.onnx"))
    (folder / "digits_8.hef").write_bytes(hef(2, "HAILO8", "digits"))
    (folder / "digits_8l.hef").write_bytes(hef(3, "HAILO8L", "digits"))
    (folder / "digits.rknn").write_bytes(rknn("rk3588"))
    manifest = yaml.safe_load((folder / "model.yaml").read_text())
    for key in ("files", "golden"):
        del manifest[key]
    manifest |= {
        "version": "1.10",
        "variants": [
            {"for": "hailo8", "file": "digits_8.hef"},
            {"for": "hailo8l", "file": "digits_8l.hef"},
            {"for": "rk3588", "file": "digits.rknn"},
            {"for": "cpu", "file": "digits.tflite"},
        ],
        "output": "probabilities",
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest | entries))
    return folder


@dataclass(frozen=True)
class Served:
    """What has become of a release on a device."""

    variant: str
    bytes: int
    files: set[str]
    in_use: str
    fallback: str
    label: str | None


def update(signed: tuple[SignedRepository, WebServer, Path], chip: str, folder: Path) -> Served:
    """A device takes the release, and answers once."""
    repository, server, _ = signed
    python = {"python": str(interpreter.make(folder / "system", with_runtimes=True))}
    stated = {"path": DIGITS, "accelerators": [{"chip": one, "options": python} for one in ("hailo", "rknn")] + ["cpu"]}
    options = settings.Model.model_validate(stated)
    before = server.sent.copy()
    remote = Repository(server.url, repository.first_root, folder / "metadata")
    chosen = choose(of_machine(remote.releases(), wanted(options.accelerators)), "porch-pi", (), None, ())
    assert chosen is not None
    store = Store(folder / "versions")
    store.part(chosen.key).parent.mkdir()
    remote.fetch(chosen, store.part(chosen.key), None, lambda _: None)
    store.take_in(chosen)
    downloaded = sum(count for path, count in (server.sent - before).items() if path.startswith("/targets/"))
    unpacked = archive.unpacked(store.archive(chosen.key))
    model = models.load("digits", options.model_copy(update={"path": store.archive(chosen.key)}), folder)
    try:
        found = Predictor(model, top_k=1, min_confidence=None).ask(read_file(PICTURE)).predictions
        facts = model.accelerator_facts()
    finally:
        model.close()
    files = {path.name for path in unpacked.iterdir() if path.suffix in (".hef", ".rknn", ".tflite", ".onnx")}
    return Served(chosen.variant, downloaded, files, facts["in_use"].split(" ")[0], facts["fallback"], found[0].label)


CPU_FILES = {"digits.tflite"}


@pytest.mark.parametrize(
    ("chip", "variant", "own", "in_use"),
    [
        ("hailo8l", "hailo8l", "digits_8l.hef", "hailo"),
        ("rk3566", "", None, "cpu"),
        pytest.param("hailo8", "hailo8", "digits_8.hef", "hailo", marks=pytest.mark.faults),
        pytest.param("rk3588", "rk3588", "digits.rknn", "rknn", marks=pytest.mark.faults),
        pytest.param("", "", None, "cpu", marks=pytest.mark.faults),
    ],
)
def test_each_device_downloads_what_its_chip_can_load_and_serves_that(
    chip: str,
    variant: str,
    own: str | None,
    in_use: str,
    signed: tuple[SignedRepository, WebServer, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(chips.VARIABLE, chip)
    control = Control(tmp_path)
    if in_use == "rknn":
        control.set(digits=True)
    for key, value in control.environment.items():
        monkeypatch.setenv(key, value)

    served = update(signed, chip, tmp_path)

    (mine,) = (one for one in signed[0].find("digits/1.10") if one.variant == variant)
    print(chip or "no chip", served)
    assert (served.variant, served.bytes) == (variant, mine.size)
    assert served.files == CPU_FILES | ({own} if own else set())
    assert (served.in_use, served.label) == (in_use, "5")
    if own is None:
        assert "the bundle has files for hailo8, hailo8l alone" in served.fallback
    elif in_use == "hailo":
        assert served.fallback == ""


def release(number: int, variant: str = "", sha256: str = "a") -> Release:
    return Release("birds", str(number), number, sha256 * 64, 1000, share=10_000, variant=variant)


def test_a_device_takes_the_best_archive_of_each_version() -> None:
    listed = [release(1), release(1, "hailo8", "b"), release(1, "hailo8l", "c"), release(2, "hailo8", "d")]
    on_8, on_8l, on_cpu = (
        of_machine(listed, names) for names in (["hailo", "hailo8", "hailo8l", "cpu"], ["hailo8l"], [])
    )
    assert [one.sha256[0] for one in on_8] == ["b", "d"]
    assert [one.sha256[0] for one in on_8l] == ["c"]
    assert [one.sha256[0] for one in on_cpu] == ["a"]


def test_a_device_that_gets_a_chip_takes_the_same_version_for_it() -> None:
    listed = [release(1), release(1, "hailo8l", "c")]
    before = choose(of_machine(listed, []), "porch-pi", (), None, ())
    assert before is not None
    after = choose(of_machine(listed, ["hailo8l"]), "porch-pi", (), before.key, ())
    assert after is not None
    assert after.variant == "hailo8l"
    assert choose(of_machine(listed, ["hailo8l"]), "porch-pi", (), after.key, ()) is None
    not_found_this_time = of_machine(listed, [])
    assert choose(not_found_this_time, "porch-pi", (), after.key, ()) is None


def test_all_archives_of_a_release_are_changed_together(tmp_path: Path) -> None:
    repository = SignedRepository(tmp_path / "repository", ask)
    repository.init()
    files = {name: tmp_path / f"{name}.zip" for name in ("", "hailo8l")}
    for name, file in files.items():
        file.write_text(name)
    added = repository.add(files, "birds", "1", 0, [])
    assert [one.path for one in added] == ["birds/1.zip", "birds/1+hailo8l.zip"]
    assert {one.share for one in repository.promote("birds/1", 500)} == {500}
    assert all(one.revoked for one in repository.revoke("birds/1"))
    with pytest.raises(ReleaseError, match="is released already"):
        repository.add(files, "birds", "1", 0, [])
