"""`release`: makes and changes the signed repository from which devices take new versions of models."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands import release_agent, release_config, upload_destination
from edge_agent.commands.argument_types import Subparsers, between
from edge_agent.commands.config_argument import add_config_argument
from edge_agent.errors import MissingExtraError, ModelError, ReleaseError
from edge_agent.system.terminal import printable
from edge_agent.system.units import format_size, parse_duration

if TYPE_CHECKING:
    from edge_agent.models.language import LanguageSource
    from edge_agent.release.repository import SignedRepository
    from edge_agent.update.releases import Release

_ROW = "{:28} {:14} {:>6} {:>8} {:16} {:>9}  {}"
# Of a measure such as `top1`.
MARGIN = 0.02
_DESTINATION_HELP = "a folder, [USER@]HOST:FOLDER by rsync over ssh, or https:// of a bucket or a server that takes PUT"
_LIST_HELP = "the list of releases as well, which needs the targets key"


def add_parser(subparsers: Subparsers) -> None:
    """Adds `release` and its actions; all of them set `run`."""
    parser = subparsers.add_parser(
        "release", help="sign new versions of models for devices, and follow them through the fleet"
    )
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    actions.add_parser("init", help="make the keys and an empty repository")
    listing = actions.add_parser("list", help="releases, and the devices that they are for")
    listing.add_argument("--json", action="store_true", help="one JSON document on standard output")

    adding = actions.add_parser("add", help="release a bundle")
    adding.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder or .zip")
    adding.add_argument("--channel", help="that devices follow (the bundle's name)")
    _add_audience(adding)
    adding.add_argument(
        "--margin",
        type=between(0.0, 1.0),
        default=MARGIN,
        metavar="M",
        help=f"by how much it may be worse than the release before, on the labelled data in its bundle ({MARGIN})",
    )

    promoting = actions.add_parser("promote", help="change which devices a release is for")
    promoting.add_argument("release", metavar="RELEASE", help="as `release list` shows it")
    promoting.add_argument("--percent", type=_percent, required=True, metavar="P", help="of all devices")
    promoting.add_argument("--group", action="append", metavar="LABEL", help="devices besides (those of before)")

    revoking = actions.add_parser("revoke", help="revoke a release: devices that have it return to the previous one")
    revoking.add_argument("release", metavar="RELEASE", help="as `release list` shows it")

    planning = actions.add_parser("plan", help="give a release waves, and begin with the first")
    planning.add_argument("release", metavar="RELEASE", help="as `release list` shows it")
    planning.add_argument("plan", type=Path, metavar="PLAN", help="YAML file with `steps`")

    uploading = actions.add_parser("upload", help="copy the repository to where devices get it")
    upload_destination.add_destination(uploading, "destination", _DESTINATION_HELP)

    renewing = actions.add_parser("renew", help="renew signatures that expire soon, as a daily job")
    renewing.add_argument("--list", action="store_true", help=_LIST_HELP)
    renewing.add_argument("--root", action="store_true", help="root.json as well, which needs the root key")

    keying = actions.add_parser("keys", help="keys and what they sign; replace one")
    keying.add_argument("--change", choices=("root", "targets", "online"), help="replace it by a new one")

    checking = actions.add_parser("expire-check", help="exit code 1 if a signature is about to expire")
    checking.add_argument("--within", type=_seconds, default=3 * 86400.0, metavar="TIME", help="how soon (3d)")

    watching = actions.add_parser("watch", help="follow a release through the fleet; exit code 1 if it fails")
    watching.add_argument("release", metavar="RELEASE", help="as `release list` shows it")
    add_config_argument(watching, "a configuration, for its mqtt section")
    watching.add_argument(
        "--passed", type=_number, default=1, metavar="N", help="devices that must have passed their probation (1)"
    )
    watching.add_argument(
        "--max-failures", type=_count, default=0, metavar="N", help="devices that may refuse it or fall silent (0)"
    )
    watching.add_argument(
        "--silence",
        type=_seconds,
        default=60.0,
        metavar="TIME",
        help="offline for as long with the release: failed (1m)",
    )
    watching.add_argument("--halt", action="store_true", help="if more do, sign that no further device takes it")
    watching.add_argument(
        "--promote",
        action="store_true",
        help="sign the next step of its plan when the devices allow it, or revoke it; needs the online key alone",
    )
    upload_destination.add_destination(
        watching, "--upload", "with --promote: as `release upload`, after each signature"
    )
    watching.add_argument("--timeout", type=_seconds, default=3600.0, metavar="TIME", help="give up after (1h)")

    configuring = actions.add_parser("config", help="release a configuration; show what it is for a device")
    further = release_config.add_parsers(
        configuring.add_subparsers(dest="config_action", metavar="ACTION", required=True)
    )
    _add_audience(further[0])

    renewing_agent = actions.add_parser("agent", help="release a version of edge-agent itself")
    agent_actions = renewing_agent.add_subparsers(dest="agent_action", metavar="ACTION", required=True)
    further.append(release_agent.add_parser(agent_actions))
    _add_audience(further[-1])

    for action in [*(one for name, one in actions.choices.items() if name not in ("agent", "config")), *further]:
        action.add_argument(
            "-r",
            "--repository",
            type=Path,
            default=Path(),
            metavar="DIR",
            help="folder of the repository (current folder)",
        )
        action.add_argument(
            "--passphrase-file", type=Path, metavar="FILE", help="default: $EDGE_AGENT_PASSPHRASE, or a prompt"
        )


def _add_audience(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--percent", type=_percent, default=0, metavar="P", help="of all devices that it is for (0)")
    parser.add_argument("--group", action="append", default=[], metavar="LABEL", help="devices that it is for besides")


def _percent(text: str) -> int:
    """A percentage as a share in units of 1/10000."""
    try:
        share = round(float(text.removesuffix("%")) * 100)
    except (ValueError, OverflowError):
        share = -1
    if not 0 <= share <= 10_000:  # noqa: PLR2004 - the whole
        raise argparse.ArgumentTypeError(f"must be a percentage from 0 to 100 (got {text!r})")
    return share


def _count(text: str, least: int = 0) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < least:
        raise argparse.ArgumentTypeError(f"must be a number from {least} (got {text!r})")
    return number


def _number(text: str) -> int:
    return _count(text, least=1)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error} (got {text!r})") from None


def run(args: argparse.Namespace) -> int:
    """Runs the action.

    Returns:
        0; or 1 if a signature expires soon, or a watched release has failed.

    Raises:
        ReleaseError: the action is not possible.
        MissingExtraError: the packages for signatures are not installed.
    """
    try:
        from edge_agent.release.keys import passphrase_from
        from edge_agent.release.repository import SignedRepository
    except ImportError as error:
        raise MissingExtraError("signing releases", "update", error) from None
    repository = SignedRepository(args.repository, passphrase_from(args.passphrase_file))
    actions = {
        "init": _init,
        "list": _list,
        "add": _add,
        "promote": _promote,
        "revoke": _revoke,
        "plan": _plan,
        "upload": _upload,
        "renew": _renew,
        "keys": _keys,
        "expire-check": _expire_check,
        "watch": _watch,
        "config": _config,
        "agent": _agent,
    }
    return actions[args.action](repository, args)


def _init(repository: "SignedRepository", args: argparse.Namespace) -> int:
    args.repository.mkdir(parents=True, exist_ok=True)
    repository.init()
    print(f"made {args.repository / 'keys'}: keep root.pem offline, and copies of all three elsewhere")
    print(f"put on each device, as update.root: {repository.first_root}")
    print(f"put on a web server: {args.repository / 'metadata'} and {args.repository / 'targets'}; never keys")
    return 0


def _list(repository: "SignedRepository", args: argparse.Namespace) -> int:
    releases = repository.releases()
    if args.json:
        print(json.dumps([{"name": one.name} | one.as_dict() for one in releases], indent=2))
        return 0
    print(_ROW.format("RELEASE", "FOR", "NUMBER", "PERCENT", "GROUPS", "SIZE", "SHA256"))
    for one in releases:
        share = "revoked" if one.revoked else f"{one.share / 100:g}"
        kilobytes = f"{one.size / 1e3:.0f} kB"
        groups = ",".join(one.groups) or "-"
        print(_ROW.format(one.name, one.variant or "-", one.number, share, groups, kilobytes, one.sha256[:12]))
    return 0


def _add(repository: "SignedRepository", args: argparse.Namespace) -> int:
    import tempfile

    from edge_agent.models import archive, bundle
    from edge_agent.models.split import split

    folder = archive.unpacked(args.bundle)
    manifest = bundle.read_manifest(folder)
    channel = args.channel or manifest.name
    if manifest.plain:
        _prove(args.bundle)
        if previous := repository.newest(channel):
            _compare(args.bundle, previous, repository.archive_of(previous), args.margin)
    else:
        print(f"{args.bundle}: has no file for the CPU, so nothing is proven here: each device tries its own file")
    with tempfile.TemporaryDirectory() as scratch:
        archives = split(folder, manifest, Path(scratch), args.bundle)
        _show(repository.add(archives, channel, manifest.version, args.percent, args.group))
    return 0


def _prove(path: Path) -> None:
    """Raises if the model fails its golden samples here, or is not as right as its bundle requires."""
    from edge_agent import settings
    from edge_agent.evaluation import packed
    from edge_agent.models.language import LanguageSource
    from edge_agent.models.resolve import resolve
    from edge_agent.models.self_test import run_self_test

    source = resolve(settings.Model(path=path.absolute()), Path.cwd())
    if isinstance(source, LanguageSource):
        _prove_language(path, source)
        return
    outcome = run_self_test(source)
    wrong = [check for check in outcome.checks if not check.right]
    if wrong:
        raise ReleaseError(
            f"{path}: {len(wrong)} of {len(outcome.checks)} golden samples come out wrong here; {wrong[0].input}: "
            f"expected {wrong[0].expected}, found {wrong[0].found}: `edge-agent models verify {path}` shows all"
        )
    if refusal := packed.refusal(packed.check_source(source)):
        raise ReleaseError(f"{path}: {refusal}")


def _prove_language(path: Path, source: "LanguageSource") -> None:
    """Raises if a language model does not answer its golden prompts, has none, or is not as right as it requires."""
    from edge_agent import settings
    from edge_agent.evaluation import packed
    from edge_agent.models import language
    from edge_agent.models.budget import Budget
    from edge_agent.models.tuning import threads_of

    if not source.golden:
        raise ReleaseError(f"{path}: has no golden_text: devices would have nothing to try it by")
    options = settings.Model(path=path.absolute())
    try:
        model = language.load("released", options, source, lambda: None, threads_of(options), Budget(None))
    except ModelError as error:
        raise ReleaseError(f"{path}: {error}") from None
    try:
        found = [] if source.evaluation is None else packed.check_language(model, source.evaluation)
    finally:
        model.close()
    if refusal := packed.refusal(found):
        raise ReleaseError(f"{path}: {refusal}")


def _compare(path: Path, previous: "Release", archive: Path, margin: float) -> None:
    """Raises if a bundle is worse than the release that it replaces, on the labelled data of either.

    Where the two can't be compared, a line on standard error says why: the devices still check what is required.
    """
    from edge_agent import settings
    from edge_agent.evaluation import packed
    from edge_agent.models.resolve import resolve_model

    try:
        new = resolve_model(settings.Model(path=path.absolute()), Path.cwd())
        old = resolve_model(settings.Model(path=archive.absolute()), Path.cwd())
        data_of = old if new.evaluation is None else new
        found = [packed.check_source(one, data_of) for one in (new, old)]
    except ModelError as error:
        print(printable(f"{path}: not compared with {previous.name}: {error}"), file=sys.stderr)
        return
    if lost := packed.worse(found[0], found[1], margin):
        raise ReleaseError(
            f"{path}: it is worse than {previous.name} by more than {margin:g}: {lost}: state --margin to accept that"
        )


def _promote(repository: "SignedRepository", args: argparse.Namespace) -> int:
    _show(repository.promote(args.release, args.percent, args.group))
    return 0


def _revoke(repository: "SignedRepository", args: argparse.Namespace) -> int:
    _show(repository.revoke(args.release))
    return 0


def _plan(repository: "SignedRepository", args: argparse.Namespace) -> int:
    from edge_agent.release.waves import read_file

    plan = read_file(args.plan)
    _show(repository.begin(args.release, plan))
    print(f"step 1 of {len(plan.steps)}; `edge-agent release watch {args.release} --promote` goes on")
    return 0


def _upload(repository: "SignedRepository", args: argparse.Namespace) -> int:
    from edge_agent.release.upload import upload

    repository.releases()  # there is a repository
    upload(args.repository, upload_destination.destination(args.destination, args))
    return 0


def _show(releases: "list[Release]") -> None:
    release = releases[0]
    groups = f" and the groups {', '.join(release.groups)}" if release.groups else ""
    state = "revoked" if release.revoked else f"for {release.share / 100:g} % of the devices{groups}"
    print(f"{release.name}: release {release.number} of its channel, {state}; upload the repository")
    for one in releases if len(releases) > 1 else ():
        print(f"  {one.variant or 'all others'}: {format_size(one.size)}")


def _renew(repository: "SignedRepository", args: argparse.Namespace) -> int:
    if args.root:
        repository.renew_root()
    repository.renew(all_lists=args.list)
    return _expire_check(repository, argparse.Namespace(within=0.0))


def _keys(repository: "SignedRepository", args: argparse.Namespace) -> int:
    if args.change:
        outdated = repository.change_key(args.change)
        old = "the old one was not here" if outdated is None else f"the old one is {outdated}, destroy it"
        print(f"{args.change}: a new key; {old}; upload the repository")
    for key, roles in repository.keys().items():
        print(f"{key:8} {', '.join(roles)}")
    return 0


def _expire_check(repository: "SignedRepository", args: argparse.Namespace) -> int:
    from datetime import UTC, datetime, timedelta

    now, soon = datetime.now(UTC), False
    for role, expires in repository.expiries().items():
        late = repository.is_due(role, expires - now, timedelta(seconds=args.within))
        left = f"{(expires - now) / timedelta(days=1):.1f} days left" if expires > now else "EXPIRED"
        print(f"{role:10} {expires:%Y-%m-%d %H:%M} UTC, {left}{', renew it' if late else ''}")
        soon |= late
    return 1 if soon else 0


def _config(repository: "SignedRepository", args: argparse.Namespace) -> int:
    done = release_config.run(repository, args)
    if isinstance(done, int):
        return done
    _show(done)
    return 0


def _agent(repository: "SignedRepository", args: argparse.Namespace) -> int:
    _show(release_agent.run(repository, args))
    return 0


def _watch(repository: "SignedRepository", args: argparse.Namespace) -> int:
    from edge_agent.commands import release_watch

    return release_watch.run(repository, args)
