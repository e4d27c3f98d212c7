"""Plants one fault at a time in a copy of the tree and runs the test that should catch it: `python tests/planted_faults.py`.

A suite that lets a planted fault pass proves nothing. Exits 1 if any fault survives.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SECONDS = 300


class Fault(NamedTuple):
    """Replace `old` by `new` in `file`; `test` must then fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


MACHINE = "tests/unit/test_pump_machine.py"
FAULTS = (
    Fault(
        "pending notes are not fetched again",
        "connectors/pump.py",
        "        self._publish_pending()\n",
        "",
        MACHINE,
    ),
    Fault(
        "pending notes are not written",
        "connectors/pump.py",
        "            self.ledger.note(self._source, self._epoch, notes)\n",
        "",
        MACHINE,
    ),
    Fault(
        "a listed read is always believed",
        "connectors/pump.py",
        "doubtful = {read.ref for read in page if _is_doubtful(read, known.get(read.ref))}",
        "doubtful: set[Ref] = set()",
        MACHINE,
    ),
    Fault(
        "a doubtful listed read is dropped",
        "connectors/pump.py",
        "        self._fetch(doubtful)\n",
        "",
        MACHINE,
    ),
    Fault(
        "versions follow the clock alone",
        "connectors/pump.py",
        "version = max(last + 1, version_at(self.clock()))",
        "version = version_at(self.clock())",
        MACHINE,
    ),
    Fault(
        "who was told is not compared",
        "connectors/pump.py",
        "return same and all(known.told.get(project) == known.version for project in projects)",
        "return same",
        MACHINE,
    ),
    Fault(
        "what moved on is not fetched for a new mapping",
        "connectors/pump.py",
        "            self._fetch(self.ledger.ever_in(self._source, container))\n",
        "",
        MACHINE,
    ),
    Fault(
        "an unmapped container is forgotten silently",
        "connectors/pump.py",
        "            self._publish([Read(ref) for ref in refs])\n",
        "            pass\n",
        MACHINE,
    ),
    Fault(
        "a thing out of sight is still shown",
        "connectors/pump.py",
        "if read.content is None or container not in self._routes:",
        "if read.content is None:",
        MACHINE,
    ),
    Fault(
        "what a sweep misses is not asked for",
        "connectors/pump.py",
        "if _differs(mark, known.get(mark.ref))} | missing)",
        "if _differs(mark, known.get(mark.ref))})",
        MACHINE,
    ),
    Fault(
        "tombstones go only to present routes",
        "connectors/pump.py",
        "told=dict.fromkeys(told, version),\n                fate=Fate.gone,\n            ),\n            set(told),",
        "told=dict.fromkeys(told, version),\n                fate=Fate.gone,\n            ),\n            set(),",
        MACHINE,
    ),
)


def survives(fault: Fault) -> bool:
    """Whether the test passes although the fault is in."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".venv", ".git", ".hypothesis", "*cache*", "*.egg-info")
        )
        target = tree / fault.file
        text = target.read_text()
        if text.count(fault.old) != 1:
            raise SystemExit(f"{fault.name}: the code to break is not there once in {fault.file}; mend this table")
        target.write_text(text.replace(fault.old, fault.new))
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *fault.test.split()],
            cwd=tree,
            env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "HOME": folder},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if run.returncode not in {0, 1}:
            raise SystemExit(f"{fault.name}: the test did not run:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
        return run.returncode == 0


def main() -> int:
    """Try every fault whose name holds the words given on the command line."""
    survivors = 0
    for fault in FAULTS:
        if all(word in fault.name for word in sys.argv[1:]):
            alive = survives(fault)
            survivors += alive
            print(f"{'SURVIVED' if alive else 'caught':8}  {fault.name}  ({fault.test})", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
