"""The JSON Schema of the configuration, against the one on record: keys, types, bounds and defaults.

Descriptions are left out: their wording is no interface.
"""

import json
from pathlib import Path
from typing import Any

from tests.golden.golden_files import check, edge_agent


def without_descriptions(part: Any) -> Any:
    if isinstance(part, list):
        return [without_descriptions(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: without_descriptions(value)
        for key, value in part.items()
        # A text: the description of this part. Anything else: a setting of that name.
        if not (key == "description" and isinstance(value, str))
    }


def test_the_schema_is_the_one_on_record(tmp_path: Path) -> None:
    run = edge_agent("schema", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    check("schema.json", json.dumps(without_descriptions(json.loads(run.stdout)), indent=1) + "\n")
