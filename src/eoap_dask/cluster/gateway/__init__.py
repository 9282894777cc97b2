"""Dask Gateway: joining and starting clusters, and a private Gateway on this machine.

``api`` talks to a Gateway (reached as ``access`` says, its ``options`` filled, its ``faults`` in sentences); ``client``
gives a Dask client to work with, ``versions`` and ``evidence`` look after any cluster; ``server`` is the private
Gateway, whose process runs ``config`` and ``backend``.
"""
