"""``python -m eoap_dask``."""

from eoap_dask.cli import main

if __name__ == "__main__":
    main()
