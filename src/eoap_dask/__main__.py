"""``python -m eoap_dask``."""

from eoap_dask.cli.main import main

if __name__ == "__main__":
    main()
