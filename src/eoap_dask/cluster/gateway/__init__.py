"""Dask Gateway: joining and starting clusters, and a private Gateway on this machine.

``api`` talks to a Gateway, ``client`` yields a Dask client of one of its clusters, ``server`` is the private Gateway.
"""
