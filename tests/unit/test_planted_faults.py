"""The table of planted faults fits the code: a fault that cannot be planted any more proves nothing."""

from __future__ import annotations

import pytest

from tests.planted_faults import FAULTS, GATE, ROOT, Fault, Outcome, chosen, table


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_can_be_planted(fault: Fault) -> None:
    assert (ROOT / fault.file).read_text().count(fault.old) == 1
    assert fault.old != fault.new
    assert all((ROOT / word).exists() for word in fault.test.split() if word.endswith(".py"))


def test_each_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_the_gate_names_faults() -> None:
    assert [fault.name for fault in chosen([], gate=True)] == list(GATE.values())
    assert len(set(GATE.values())) == len(GATE) >= 12
    assert [fault.name for fault in chosen(["zombie"], gate=False)] == ["a zombie's batch is taken"]


def test_the_gate_says_what_caught_a_fault_and_what_nothing_did() -> None:
    guard, name = next(iter(GATE.items()))
    assert table({name: Outcome("tests/x.py::test_y", 1.6)}).splitlines()[2:] == [
        f"| {guard} | {name} | `tests/x.py::test_y` | 2 |"
    ]
    assert "**nothing**" in table({name: Outcome("", 1)})
