"""`models history` and `models rollback`: versions of models that updates have installed on this device."""

import argparse
import json
from dataclasses import asdict

from edge_agent.commands.config_argument import config_file
from edge_agent.errors import ConfigError
from edge_agent.update.configuration import load_active
from edge_agent.update.store import Store
from edge_agent.update.stores import stores_of


def run(args: argparse.Namespace) -> int:
    """Runs the action; returns the exit code.

    Raises:
        ConfigError: the configuration can't be read, or updates no such model.
        UpdateError: there is no earlier version.
    """
    loaded = load_active(config_file(args), keep=True)
    stores = stores_of(loaded)
    if args.action == "history":
        return _history(stores, as_json=args.json)
    if args.model not in stores:
        known = ", ".join(stores) or "none"
        raise ConfigError([f"{loaded.where('update')}: {args.model} is not an updated model; updated models: {known}"])
    store = stores[args.model]
    store.roll_back("by hand")
    state = store.state()
    print(
        f"{args.model}: {state.name(state.active)} is active; `systemctl reload edge-agent` has a running daemon use it"
    )
    return 0


def _history(stores: dict[str, Store], *, as_json: bool) -> int:
    states = {name: store.state() for name, store in stores.items()}
    if as_json:
        print(json.dumps({name: asdict(state) for name, state in states.items()}, indent=2))
        return 0
    for name, state in states.items():
        print(f"{name}: {state.name(state.active)} is active{', on probation' if state.on_probation else ''}")
        for event in state.history:
            reason = f": {event['reason']}" if "reason" in event else ""
            print(f"  {event['at']}  {event['step']:12} {event['version']}{reason}")
    return 0
