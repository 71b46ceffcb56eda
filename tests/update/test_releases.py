"""Which release a device takes."""

from dataclasses import replace

import pytest

from edge_agent.errors import UpdateError
from edge_agent.update.releases import Release, choose, is_revoked, read

SHA = "a" * 64
FACTS = {"number": 1, "share": 0, "groups": [], "revoked": False}


def release(number: int, share: int = 10_000, groups: tuple[str, ...] = (), *, revoked: bool = False) -> Release:
    return Release("birds", str(number), number, f"{number:064x}", 1000, share, groups, revoked)


def test_a_share_of_all_devices_is_meant_and_who_is_meant_stays_so_as_it_grows() -> None:
    devices = [f"device-{number}" for number in range(20_000)]
    before: set[str] = set()
    for share in 0, 100, 1000, 5000, 10_000:
        meant = {device for device in devices if release(1, share).is_for(device, ())}
        assert abs(len(meant) - len(devices) * share / 10_000) < 0.02 * len(devices)
        assert before <= meant
        before = meant
    assert before == set(devices)


def test_the_first_devices_of_one_release_are_not_those_of_the_next() -> None:
    devices = [f"device-{number}" for number in range(1000)]
    first, second = ({d for d in devices if release(n, 1000).is_for(d, ())} for n in (1, 2))
    assert len(first & second) < len(first) / 2


def test_groups_are_meant_whatever_the_share() -> None:
    one = release(1, 0, ("canary", "lab"))
    assert one.is_for("porch-pi", ["lab"])
    assert not one.is_for("porch-pi", ["kitchen"])
    assert not one.is_for("porch-pi", [])


@pytest.mark.parametrize(
    ("releases", "active", "refused", "chosen"),
    [
        ([], None, [], None),
        ([release(1), release(2)], None, [], 2),
        ([release(1), release(2)], release(2), [], None),
        ([release(1), release(2)], release(1), [], 2),
        ([release(1), release(2, 0)], release(1), [], None),
        ([release(1), release(2), release(3)], release(1), [release(3)], 2),
        ([release(1), release(2, revoked=True)], None, [], 1),
        ([release(1), release(2)], release(3), [], None),
    ],
)
def test_a_device_takes_the_newest_that_is_for_it(
    releases: list[Release], active: Release | None, refused: list[Release], chosen: int | None
) -> None:
    found = choose(releases, "porch-pi", (), active.key if active else None, [one.key for one in refused])
    assert (found and found.number) == chosen


def test_other_content_under_the_same_name_is_another_release() -> None:
    assert replace(release(1), sha256=SHA).key != release(1).key


def test_only_what_is_marked_is_revoked() -> None:
    assert is_revoked([release(1, revoked=True)], release(1).key)
    assert not is_revoked([release(1, revoked=True)], release(2).key)
    assert not is_revoked([release(1)], None)


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("birds/1.zip", None),
        ("birds/1.zip", FACTS | {"number": "1"}),
        ("birds/1.zip", FACTS | {"share": 0.5}),
        ("birds/1.zip", FACTS | {"groups": "canary"}),
        ("birds/1.zip", FACTS | {"revoked": 0}),
        ("birds.zip", FACTS),
        ("../1.zip", FACTS),
        ("birds/../../1.zip", FACTS),
        ("birds/1/2.zip", FACTS),
    ],
)
def test_what_is_signed_but_no_release_is_refused(path: str, facts: dict[str, object] | None) -> None:
    with pytest.raises(UpdateError, match="is it the right repository"):
        read(path, 1000, {"sha256": SHA}, facts)


def test_a_release_is_read_as_it_was_written() -> None:
    one = release(7, 250, ("canary",), revoked=True)
    assert read(f"{one.name}.zip", one.size, {"sha256": one.sha256}, one.facts()) == one
