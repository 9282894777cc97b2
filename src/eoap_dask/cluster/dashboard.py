"""The dashboard of a cluster of ours, made at the first look at it: importing its parts takes half a second.

For a scheduler of its own: ``dask scheduler --no-dashboard --preload eoap_dask.cluster.dashboard``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loguru import logger
from tornado import httputil, web

if TYPE_CHECKING:
    from distributed import Scheduler

_LISTS = ("/individual-plots.json", "/sitemap.json")
"""Pages that the scheduler has itself, and that list those of the dashboard."""


def make_dashboard_on_demand(scheduler: Scheduler) -> None:
    """Make the dashboard at the first request for a page that the scheduler itself lacks.

    The scheduler is in this process, was started without a dashboard, and its server listens already. What monitoring
    asks for (``/health``, ``/metrics``, ``/info``) it has without one.
    """
    application = scheduler.http_application
    find = application.find_handler

    def find_handler(request: httputil.HTTPServerRequest, **more: Any) -> Any:
        found = find(request, **more)
        has_it = found is not None and not issubclass(found.handler_class, web.ErrorHandler)
        if has_it and request.path not in _LISTS:
            return found
        application.find_handler = find  # type: ignore[method-assign]
        _make(scheduler)
        return find(request, **more)

    application.find_handler = find_handler  # type: ignore[method-assign]


def dask_setup(scheduler: Scheduler) -> None:
    """Make the dashboard on demand in a scheduler of its own, as Dask's preload."""
    make_dashboard_on_demand(scheduler)


def _make(scheduler: Scheduler) -> None:
    before = list(scheduler.http_application.applications)
    try:
        from distributed.dashboard.scheduler import connect

        connect(scheduler.http_application, scheduler.http_server, scheduler)
    except Exception as exc:  # noqa: BLE001 - the work goes on without it, whatever is wrong
        scheduler.http_application.applications[:] = before
        logger.warning("There is no dashboard: {}", exc)
