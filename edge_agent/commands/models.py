"""`models`: the public models of the registry; bundles, made and verified here; versions of updated models."""

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.commands import compare, fit, quantize
from edge_agent.commands.argument_types import Subparsers
from edge_agent.commands.config_argument import add_config_argument
from edge_agent.commands.model_arguments import add_model_arguments, model_settings
from edge_agent.errors import ConfigError, MissingExtraError, ModelError

if TYPE_CHECKING:
    from edge_agent.evaluation.packed import Requirement
    from edge_agent.models.bundle import Manifest
    from edge_agent.models.language import LanguageSource
    from edge_agent.models.registry import Progress

_ROW = "{:24} {:14} {:12} {:>7}  {:4}  {}"
_LONG_ROW = "{:24} {:14} {:>7} {:>10}  {}"


def add_parser(subparsers: Subparsers) -> None:
    """Adds the actions of `models`; all of them set `run`."""
    models = subparsers.add_parser("models", help="list public models, pull them; make bundles, verify them")
    models.set_defaults(run=run)
    actions = models.add_subparsers(dest="action", metavar="ACTION", required=True)
    list_ = actions.add_parser("list", help="public models, and which of them are on this machine")
    list_.add_argument("--long", action="store_true", help="with how fast and how right each was when it was measured")
    pull = actions.add_parser("pull", help="download models; a configuration refers to them by name")
    pull.add_argument("names", nargs="+", metavar="NAME", help="as `models list` shows it")
    pull.add_argument("--mirror", help="address or folder to take the files from ($EDGE_AGENT_MIRROR)")
    pull.add_argument("--into", type=Path, metavar="DIR", help="folder of models ($EDGE_AGENT_MODELS)")
    verify = actions.add_parser("verify", help="run models on their golden samples, on this machine")
    verify.add_argument(
        "bundles", nargs="*", metavar="BUNDLE", help="name, folder or .zip; default: all here that have golden samples"
    )
    bundle = actions.add_parser("bundle", help="make a bundle of a model file and its metadata")
    add_model_arguments(bundle)
    bundle.add_argument("--name", required=True, help="of the model")
    bundle.add_argument("--version", default="1", metavar="V", help="of the model (1)")
    bundle.add_argument("--licence", default="", metavar="L", help="SPDX name of the licence of the weights")
    bundle.add_argument("--golden", nargs="+", type=Path, default=[], metavar="IMAGE", help="golden samples to record")
    bundle.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="folder to make, or a .zip")
    quantize.add_action(actions)
    compare.add_action(actions)
    fit.add_action(actions)
    history = actions.add_parser("history", help="versions of updated models, and what happened to them")
    add_config_argument(history)
    rollback = actions.add_parser("rollback", help="go back to the version before; reload the daemon then")
    rollback.add_argument("model", metavar="NAME", help="of the model in the configuration")
    add_config_argument(rollback)
    for parser in (list_, pull, verify, history):
        parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(args: argparse.Namespace) -> int:
    """Runs the action.

    Returns:
        0; or 1 where a model could not be pulled, fails its golden samples, was not quantized, or can't be compared.

    Raises:
        ConfigError: a name or the mirror is wrong.
        ModelError: no bundle can be made of a model, or it can't be quantized.
    """
    if args.action == "list":
        return _list(as_json=args.json, long=args.long)
    if args.action == "verify":
        return _verify(args.bundles, as_json=args.json)
    if args.action == "bundle":
        return _bundle(args)
    if args.action in ("compare", "fit", "quantize"):
        return {"compare": compare.run, "fit": fit.run, "quantize": quantize.run}[args.action](args)
    if args.action in ("history", "rollback"):
        from edge_agent.commands import versions

        return versions.run(args)
    return _pull(args.names, args.mirror, args.into, as_json=args.json)


def _list(*, as_json: bool, long: bool) -> int:
    from edge_agent.models import registry
    from edge_agent.models.bundle import read_manifest
    from edge_agent.models.shipped import BUNDLES

    rows: list[dict[str, Any]] = []
    for name in BUNDLES:
        if folder := registry.resolve(name):
            manifest = read_manifest(folder)
            about = {
                "description": "Comes with edge-agent",
                "task": manifest.task,
                "licence": manifest.licence,
            }
            # A language model has more files than the one that identifies it.
            named = (
                folder.iterdir() if "genai" in manifest.files else [folder / file for file in manifest.files.values()]
            )
            size = sum(file.stat().st_size for file in named)
            rows.append({"name": name, **about, "source": manifest.source, "size": size, "path": str(folder)})
    for name, entry in registry.entries().items():
        about = {"description": entry.description, "task": entry.task, "licence": entry.licence}
        here = str(folder) if (folder := registry.resolve(name)) else None
        measured = {"measured": entry.measured.model_dump(mode="json")} if entry.measured else {}
        language = {"language": entry.language.model_dump(mode="json")} if entry.language else {}
        facts = {
            "name": name,
            **about,
            "source": entry.source,
            "size": entry.size,
            "path": here,
            **measured,
            **language,
        }
        rows.append(facts)
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    if long:
        _show_measured(rows)
        return 0
    print(_ROW.format("NAME", "TASK", "LICENCE", "SIZE", "HERE", "DESCRIPTION"))
    for row in rows:
        kilobytes = f"{row['size'] / 1e3:.0f} kB"
        here = "yes" if row["path"] else "-"
        print(_ROW.format(row["name"], row["task"], row["licence"], kilobytes, here, row["description"]))
    return 0


def _show_measured(rows: Sequence[dict[str, Any]]) -> None:
    from edge_agent.models.registry import MACHINE

    print(_LONG_ROW.format("NAME", "TASK", "MS", "RIGHT", "OF"))
    for row in rows:
        ms = right = inputs = ""
        if measured := row.get("measured"):
            ms, right = f"{measured['ms']:.2f}", f"{measured['right']}/{measured['of']}"
            inputs = measured["inputs"]
        print(_LONG_ROW.format(row["name"], row["task"], ms or "-", right or "-", inputs or "-"))
        print(f"{'':24} {row['description']}; {row['licence']}, {row['size'] / 1e3:.0f} kB")
        if language := row.get("language"):
            speed = language["tokens_per_second"]
            said = f"{speed:g} tokens per CPU second" if speed else "speed not measured"
            print(f"{'':24} about {language['memory'] / 1e6:.0f} MB of memory; {said}")
    print(f"MS: CPU time of an inference on one thread of {MACHINE}. `edge-agent bench` measures this machine.")


def _pull(names: Sequence[str], mirror: str | None, into: Path | None, *, as_json: bool) -> int:
    from edge_agent.models import registry

    _check_names(names)
    answers: list[dict[str, str]] = []
    for name in names:
        try:
            with _shown(name) as progress:
                path = registry.pull(name, into or registry.models_dir(), mirror, progress)
            answers.append({"name": name, "path": str(path)})
        except ModelError as error:
            print(f"{name}: {error}", file=sys.stderr)
            answers.append({"name": name, "error": str(error)})
    if as_json:
        print(json.dumps(answers, indent=2))
    else:
        for answer in answers:
            if "path" in answer:
                print(f"{answer['name']}: {answer['path']}")
    return 1 if any("error" in answer for answer in answers) else 0


def _check_names(names: Sequence[str]) -> None:
    """Raises for unknown names before anything is pulled."""
    from edge_agent.models import registry
    from edge_agent.models.shipped import BUNDLES

    problems: list[str] = []
    for name in names:
        try:
            if name not in BUNDLES:
                registry.find(name)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


@contextmanager
def _shown(name: str) -> Iterator["Progress | None"]:
    """Shows progress on stderr: a bar on a terminal, else one line at the start."""
    if not sys.stderr.isatty():
        print(f"{name}: pulling", file=sys.stderr)
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _verify(bundles: Sequence[str], *, as_json: bool) -> int:
    answers = [_verified(bundle) for bundle in bundles or _with_golden_samples()]
    if as_json:
        print(json.dumps(answers, indent=2))
    else:
        for answer in answers:
            _show_verified(answer)
    return 1 if any("error" in answer for answer in answers) else 0


def _with_golden_samples() -> list[str]:
    """Bundled and pulled models that have golden samples, and those that can't be read."""
    from edge_agent.models import bundle, registry
    from edge_agent.models.shipped import BUNDLES, shipped

    folder = registry.models_dir()
    here = [path for path in sorted(folder.iterdir()) if (path / bundle.MANIFEST).is_file()] if folder.is_dir() else []
    found = [name for name in BUNDLES if _can_be_asked(bundle.read_manifest(shipped(name)))]
    for path in here:
        try:
            if _can_be_asked(bundle.read_manifest(path)):
                found.append(str(path))
        except ModelError:
            found.append(str(path))
    return found


def _can_be_asked(manifest: "Manifest") -> bool:
    """Whether it has golden samples; those of a language model count if its extra is installed."""
    if manifest.golden_text:
        return importlib.util.find_spec("onnxruntime_genai" if "genai" in manifest.files else "xllamacpp") is not None
    return bool(manifest.golden) or manifest.evaluation is not None


def _verified(bundle: str) -> dict[str, Any]:
    from dataclasses import asdict

    from edge_agent import settings
    from edge_agent.evaluation import packed
    from edge_agent.models.language import LanguageSource
    from edge_agent.models.resolve import resolve
    from edge_agent.models.self_test import run_self_test

    try:
        source = resolve(settings.Model(path=Path(bundle)), Path.cwd())
        if isinstance(source, LanguageSource):
            return _verified_language_model(bundle, source)
        outcome = run_self_test(source)
    except ModelError as error:
        return {"bundle": bundle, "error": str(error)}
    wrong = sum(not check.right for check in outcome.checks)
    answer = {"bundle": bundle} | asdict(outcome)
    if source.evaluation is not None and not wrong:
        return answer | _evaluated(lambda: packed.check_source(source))
    if not outcome.checks:
        answer["error"] = "it has no golden samples: `edge-agent models bundle … --golden IMAGE…` records some"
    elif wrong:
        answer["error"] = f"{wrong} of {len(outcome.checks)} golden samples come out wrong"
    return answer


def _evaluated(check: "Callable[[], list[Requirement]]") -> dict[str, Any]:
    """What a model is like on the labelled data in its bundle."""
    from edge_agent.evaluation import packed

    try:
        found = check()
    except ModelError as error:
        return {"error": str(error)}
    rows = [{"metric": one.metric, "required": one.required, "found": one.found, "met": one.is_met} for one in found]
    refusal = packed.refusal(found)
    return {"evaluation": rows} | ({"error": refusal} if refusal else {})


def _verified_language_model(bundle: str, source: "LanguageSource") -> dict[str, Any]:
    """A language model is run on its golden samples when it is loaded, and refused if one answer is wrong."""
    from edge_agent import settings
    from edge_agent.evaluation import packed
    from edge_agent.models import language
    from edge_agent.models.budget import Budget

    required = source.evaluation
    if not source.golden and required is None:
        return {"bundle": bundle, "error": "it has no golden samples: state some as golden_text in model.yaml"}
    try:
        model = language.load(bundle, settings.Model(path=source.path), source, lambda: None, 1, Budget(None))
    except (ModelError, MissingExtraError) as error:
        return {"bundle": bundle, "error": str(error)}
    checks = [{"input": one.prompt, "expected": one.text, "found": one.text, "right": True} for one in source.golden]
    answer = {"bundle": bundle, "runtime": model.engine.runtime, "accelerator": "cpu", "checks": checks}
    try:
        return answer | ({} if required is None else _evaluated(lambda: packed.check_language(model, required)))
    finally:
        model.close()


def _show_verified(answer: dict[str, Any]) -> None:
    from edge_agent.system.terminal import printable

    checks = answer.get("checks", ())
    if "runtime" in answer and (checks or "evaluation" in answer):
        print(f"{printable(answer['bundle'])}: {answer['runtime']} on {answer['accelerator']}")
    width = max((len(check["input"]) for check in checks), default=0)
    for check in checks:
        verdict = "right" if check["right"] else "WRONG"
        line = f"  {verdict}  {check['input']:{width}}  expected {check['expected']}, found {check['found']}"
        print(printable(line))
    for row in answer.get("evaluation", ()):
        print(f"  {'right' if row['met'] else 'WRONG'}  {row['metric']} {row['found']:g}, required {row['required']:g}")
    if "error" in answer:
        text = answer["error"]
        print(printable(text if text.startswith(answer["bundle"]) else f"{answer['bundle']}: {text}"), file=sys.stderr)
    elif checks:
        print(f"{printable(answer['bundle'])}: {len(checks)} of {len(checks)} golden samples come out right")
    else:
        print(f"{printable(answer['bundle'])}: it is right enough here")


def _bundle(args: argparse.Namespace) -> int:
    from edge_agent.models.pack import About, pack

    about = About(args.name, args.version, args.licence)
    manifest = pack(model_settings(args), Path.cwd(), about, args.golden, args.out)
    if args.json:
        print(json.dumps({"path": str(args.out)} | manifest.model_dump(mode="json", exclude_none=True), indent=2))
        return 0
    print(f"{args.out}: {manifest.task}, golden samples: {len(manifest.golden)}")
    if not args.golden:
        print("without golden samples it can't be verified: --golden IMAGE… records some", file=sys.stderr)
    return 0
