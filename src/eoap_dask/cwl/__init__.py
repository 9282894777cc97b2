"""CWL application packages: made from the applications' parameters, checked, and run with their Dask clusters.

``describe`` turns parameters into inputs and ``generate`` these into documents; ``requirement`` is what a tool asks of
a Dask Gateway, ``document`` and ``validate`` check files, and ``runner`` is cwltool that honours the requirement, with
``clusters``, ``jobs`` and ``tools``.
"""
