"""The applications by name: what the command line, Python, CWL and documentation share. Importing it is cheap."""

from __future__ import annotations

from eoap_dask.applications.bai.entry import BAI
from eoap_dask.applications.change_detection.entry import CHANGE_DETECTION
from eoap_dask.applications.cloudless_mosaic.entry import MOSAIC
from eoap_dask.applications.crop_chips.entry import CROP_CHIPS
from eoap_dask.applications.entry import Entry

APPLICATIONS: dict[str, Entry] = {one.name: one for one in (MOSAIC, BAI, CROP_CHIPS, CHANGE_DETECTION)}
"""Every application, by the name of its command."""

PYTHON_NAMES: dict[str, Entry] = {name: one for one in APPLICATIONS.values() for name in one.python_names}
"""The functions and parameters that `eoap_dask` offers, and whose they are."""
