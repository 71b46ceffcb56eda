"""Which files of a bundle a machine can use: the plain one, and those for its accelerators and chips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent import settings
from edge_agent.engines.accelerators import ACCELERATORS, CPU, known_as
from edge_agent.errors import ModelError
from edge_agent.modelfile import chips, inspect
from edge_agent.modelfile.facts import ModelFile
from edge_agent.models.bundle import MANIFEST, Manifest, choose_file
from edge_agent.system import chips as machine


@dataclass(frozen=True, slots=True)
class Fitting:
    """The files of a bundle that fit a machine.

    Attributes:
        base: the plain one; where the bundle has none, the first one that fits.
        for_accelerators: files that stand in for the base, by the accelerator.
        unfit: accelerator that the bundle has files for -> why none of them fits.
    """

    base: ModelFile
    for_accelerators: Mapping[str, ModelFile] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)


def wanted(accelerators: Sequence[settings.Accelerator], present: Sequence[str] | None = None) -> list[str]:
    """What a machine can use files for, the best first: names of accelerators and chips.

    Args:
        accelerators: of the model, in order of preference.
        present: the chips of the machine; None: looked for.
    """
    present = machine.present() if present is None else present
    found = []
    for accelerator in accelerators:
        name = known_as(accelerator)
        own = [chip for chip in present if chips.accelerator_of(chip) == name]
        found += [name, *(target for chip in own for target in chips.loadable(chip))]
    return list(dict.fromkeys(filter(None, found)))


def fitting(manifest: Manifest, folder: Path, accelerators: Sequence[settings.Accelerator]) -> Fitting:
    """Chooses the files of a bundle for this machine.

    Raises:
        ModelError: none fits, or a file is not for what the manifest names.
    """
    files = {name: _read(folder, name, path) for name, path in manifest.for_targets.items()}
    present = machine.present() if {*files, *manifest.left_out} & chips.LOADS.keys() else ()
    targets = [target for chip in present for target in chips.loadable(chip)]
    chosen: dict[str, ModelFile] = {}
    for name in [*targets, *(name for name in files if name not in chips.LOADS)]:
        if name in files:
            chosen.setdefault(chips.accelerator_of(name), files[name])
    offered: dict[str, list[str]] = {}
    for name in (*files, *manifest.left_out):
        offered.setdefault(chips.accelerator_of(name), []).append(name)
    unfit = {name: _why(name, names, present) for name, names in offered.items() if name not in chosen}
    if manifest.plain:
        base = inspect.read(folder / choose_file(manifest, accelerators))
        unfit = {name: why for name, why in unfit.items() if not _runs_on(name, base)}
        return Fitting(base, chosen, unfit)
    names = list(chosen) if list(accelerators) == [CPU] else [known_as(one) for one in accelerators]
    asked = [chosen[name] for name in names if name in chosen]
    if not asked:
        here = ", ".join(present) or "no chip that is known"
        raise ModelError(
            f"{folder / MANIFEST}: has files for {', '.join((*files, *manifest.left_out))} alone, none of which "
            f"`accelerators` asks for and this machine has (it has {here}): add a file `for: cpu`"
        )
    return Fitting(asked[0], chosen, unfit)


def check(manifest: Manifest, folder: Path) -> None:
    """Checks that each file for a chip can be loaded by that chip.

    Raises:
        ModelError: one can't be.
    """
    for name, path in manifest.for_targets.items():
        _read(folder, name, path)


def _read(folder: Path, name: str, path: Path) -> ModelFile:
    file = inspect.read(folder / path)
    if name in chips.LOADS:
        made_for = file.compiled.chips if file.compiled else ()
        if name not in made_for:
            target = f"compiled for {file.compiled.target}" if file.compiled else f"a .{file.format} file"
            raise ModelError(f"{folder / MANIFEST}: {path} is {target}, which {name} can't load: compile it for {name}")
    return file


def _runs_on(name: str, file: ModelFile) -> bool:
    return any(name == known and getattr(row, file.format) for known, row in ACCELERATORS.items())


def _why(name: str, offered: Sequence[str], present: Sequence[str]) -> str:
    alone = f"the bundle has files for {', '.join(offered)} alone"
    here = [chip for chip in present if chips.accelerator_of(chip) == name]
    if here:
        return f"{alone}, and not for {', '.join(here)}"
    if name in offered:
        return f"{alone}, in another archive of its release"
    return f"{alone}, and no such chip is found here: `edge-agent doctor` says why, or state {machine.VARIABLE}"
