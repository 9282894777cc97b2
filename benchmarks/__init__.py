"""Measurements of eoap-dask beside other ways to do the same; see README.md."""
