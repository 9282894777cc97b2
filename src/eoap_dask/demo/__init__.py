"""A synthetic archive and the servers for it: everything that a demo or a test needs, without a network."""

from eoap_dask.demo.archive import Archive, make_archive
from eoap_dask.demo.catalogue import Catalogue
from eoap_dask.demo.large import make_fire_pair
from eoap_dask.demo.process import ServerProcess
from eoap_dask.demo.server import DemoServer, Stats

__all__ = ["Archive", "Catalogue", "DemoServer", "ServerProcess", "Stats", "make_archive", "make_fire_pair"]
