"""What calrissian's built-in dispose script does, as far as it was seen; ours to compare with."""

import os
import time
from pathlib import Path

from dask_gateway import Gateway

while not Path("/shared/completed").exists():
    time.sleep(5)
name = Path(os.environ["DASK_CLUSTER_NAME_PATH"]).read_text().strip()
Gateway(os.environ["DASK_GATEWAY_URL"]).connect(name).shutdown()
