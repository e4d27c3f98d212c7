"""AsyncAPI's own JSON Schema of its documents, as npm's package `@asyncapi/specs` ships it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

VERSION = "6.11.1"
CACHES = Path(os.environ.get("PMSYNC_TEST_CACHE", Path.home() / ".cache" / "pmsync-tests"))
PACKED = CACHES / f"asyncapi-specs-{VERSION}.tgz"
DOWNLOAD_SECONDS = 120.0


def find() -> str | None:
    """Where the package is; npm is asked for it once. None where it is not to be had."""
    if not PACKED.exists() and shutil.which("npm"):
        CACHES.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", f"@asyncapi/specs@{VERSION}", "--pack-destination", str(CACHES)]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=DOWNLOAD_SECONDS, check=False)
    return str(PACKED) if PACKED.exists() else None


def schema(place: str) -> Any:
    """The schema of an AsyncAPI 3.0.0 document."""
    with tarfile.open(place) as package:
        found = package.extractfile("package/schemas/3.0.0-without-$id.json")
        assert found
        return json.load(found)
