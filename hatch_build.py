"""Puts the application packages of a version beside its wheel: ``monthly-composite.<version>.cwl``."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WORKFLOWS = "cwl-workflows"


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling calls it when a wheel is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the hook's signature
        """Refuse to build a version with the packages of another."""
        wanted = self.metadata.version
        for path in self._packages():
            found = re.search(r"^s:softwareVersion: (\S+)$", path.read_text("utf-8"), re.MULTILINE)
            if found is None or found[1].strip("'\"") != wanted:
                raise SystemExit(f"{path} isn't of version {wanted}. Try eoap-dask cwl generate.")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Copy the packages."""
        if version == "editable":
            return
        for path in self._packages():
            shutil.copyfile(path, Path(artifact_path).with_name(f"{path.stem}.{self.metadata.version}.cwl"))

    def _packages(self) -> list[Path]:
        return sorted(Path(self.root, WORKFLOWS).glob("*.cwl"))
