"""Puts the add-on of Home Assistant together, as the Supervisor builds it: its files, the image's recipe, the packages.

    build.py PACKAGE.deb [PACKAGE.deb ...]    # of Debian 13, for amd64 and arm64

The folder dist/home-assistant is a repository of add-ons with this one in it.
"""

import argparse
import shutil
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FILES = ("config.yaml", "start.py", "agent.yaml", "DOCS.md")


def build(packages: list[Path], into: Path) -> Path:
    """Makes the repository again and returns the add-on's folder in it."""
    shutil.rmtree(into, ignore_errors=True)
    folder = into / "edge_agent"
    folder.mkdir(parents=True)
    shutil.copy(HERE / "repository.yaml", into)
    for file in (*(HERE / name for name in FILES), *packages):
        shutil.copy(file, folder)
    recipes = (ROOT / "deploy" / "container" / "Containerfile", HERE / "Containerfile")
    (folder / "Dockerfile").write_text("".join(file.read_text(encoding="utf-8") for file in recipes), encoding="utf-8")
    return folder


def main() -> None:
    """Builds it of the packages on the command line."""
    parser = argparse.ArgumentParser(description="Puts the add-on of Home Assistant together.")
    parser.add_argument("package", nargs="+", type=Path)
    parser.add_argument(
        "--into", type=Path, default=ROOT / "dist" / "home-assistant", help="default: dist/home-assistant"
    )
    options = parser.parse_args()
    print(build(options.package, options.into))


if __name__ == "__main__":
    main()
