"""Writes the software bill of materials: the project and every Python package that requirements/runtime.txt locks, as CycloneDX JSON.

    python3 scripts/sbom.py > sbom.cdx.json

It needs the standard library only and depends on nothing but the two files, so that the image's and yours are the same.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(.*(?:\n[ ]+.*)*)", re.MULTILINE)
VIA = re.compile(r"# (?:via )? *([A-Za-z0-9._-]+)")


def main() -> None:
    """Write it to standard output."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    json.dump(bill_of(project, (ROOT / "requirements" / "runtime.txt").read_text()), sys.stdout, indent=2)
    sys.stdout.write("\n")


def bill_of(project: dict[str, Any], lock: str) -> dict[str, Any]:
    """The document.

    Parameters
    ----------
    project
        The table `project` of pyproject.toml.
    lock
        A file of pinned requirements, with comments that say what each is needed by.
    """
    name, version = project["name"], project["version"]
    found = [(one[1], one[2], set(VIA.findall(one[3]))) for one in PINNED.finditer(lock)]
    references = {name: reference(name, version)} | {one: reference(one, pinned) for one, pinned, _ in found}
    needs = {
        references[one]: sorted(references[needed] for needed, _, needed_by in found if one in needed_by) for one in references
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, references[name] + lock)}",
        "version": 1,
        "metadata": {
            "component": {
                **component(name, version, "application"),
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": [component(one, pinned, "library") for one, pinned, _ in found],
        "dependencies": [{"ref": ref, "dependsOn": on} for ref, on in needs.items()],
    }


def component(name: str, version: str, kind: str) -> dict[str, Any]:
    """A package; what is the project's own and what is a library look alike."""
    url = reference(name, version)
    return {"type": kind, "bom-ref": url, "name": name, "version": version, "purl": url}


def reference(name: str, version: str) -> str:
    """Its package URL."""
    return f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"


if __name__ == "__main__":
    main()
