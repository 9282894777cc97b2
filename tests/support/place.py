"""A served archive, a cluster, and the mosaics that were made of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client

from eoap_dask import MosaicParams, Run, RunOptions, cloudless_mosaic
from eoap_dask.demo.archive import Archive
from eoap_dask.demo.process import ServerProcess


@dataclass
class Place:
    """What tests of mosaics work on; each product is made once."""

    archive: Archive
    server: ServerProcess
    client: Client
    root: Path
    bands: tuple[str, ...]
    made: dict[str, Run] = field(default_factory=dict)

    @property
    def box(self) -> str:
        """The archive's area."""
        return ",".join(map(str, self.archive.aoi_bbox))

    def mosaic(self, **params: Any) -> Run:
        """Return the mosaic of two months with these parameters; made when first asked for, in blocks of 512."""
        key = repr(sorted(params.items()))
        if key not in self.made:
            asked = {
                "aoi": self.box,
                "bands": self.bands,
                "end_date": "2020-11-30",
                "max_cloud_cover": 100.0,
                **params,
            }
            self.made[key] = cloudless_mosaic(
                MosaicParams(stac=self.server.url, collection=self.archive.collection, **asked),
                RunOptions(output_dir=self.root / f"mosaic-{len(self.made)}", block=512),
                client=self.client,
            )
        return self.made[key]
