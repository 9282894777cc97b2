"""CWL application packages: made from the applications' parameters, checked, and run with their Dask clusters.

``generate`` writes them, ``validate`` checks them, and ``runner`` is cwltool with a Dask cluster for each step.
"""
