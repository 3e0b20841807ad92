"""Builds the admin application: health and metrics, playground, dashboard and API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.gateway.admin.api.app import api_application
from modeltoll.gateway.admin.api.operations import AdminApi
from modeltoll.gateway.admin.auth import AdminAuth
from modeltoll.gateway.admin.dashboard.app import dashboard_application
from modeltoll.gateway.admin.dashboard.models import DashboardModel
from modeltoll.gateway.admin.front_page import AdminPlace, front_page
from modeltoll.gateway.admin.health import admin_application
from modeltoll.gateway.admin.playground.app import PlaygroundConfig, PlaygroundModel, playground_application

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modeltoll.gateway.assembly.gateway import SharedResources
    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.settings.gateway import Settings
    from modeltoll.gateway.upstream.upstream import Upstream

__all__ = ["API", "DASHBOARD", "PLAYGROUND", "build_admin"]

PLAYGROUND, DASHBOARD, API = "/try", "/dashboard", "/api"
_PLACES = (
    AdminPlace(f"{DASHBOARD}/", "requests, work and callers under suspicion, and how honest callers fare"),
    AdminPlace(f"{PLAYGROUND}/", "a page that sends requests and pays their tolls"),
    AdminPlace(f"{API}/", "the operators' API: callers, evidence, states of models"),
    AdminPlace("/metrics", "metrics in Prometheus' text format"),
    AdminPlace("/readyz", "200 if the model server and the ledger answer, else 503"),
    AdminPlace("/livez", "200 while the process runs"),
)


def build_admin(
    settings: Settings,
    gates: Mapping[str, Gate],
    upstream: Upstream,
    shared: SharedResources,
    clock: Callable[[], float],
) -> AdminAuth:
    """The admin application, behind the operator's token where the settings have one."""
    served_models = {name: gate.config.served_model for name, gate in gates.items()}
    ready_path = next(iter(served_models.values())).ready_path
    admin = admin_application(upstream, ready_path, shared.ledger, shared.metrics, shared.state)
    models = tuple(
        PlaygroundModel(name, model.infer_path, model.metadata_path) for name, model in served_models.items()
    )
    admin.router.routes.append(front_page(_PLACES, f"{PLAYGROUND}/page.css"))
    page = PlaygroundConfig(settings.tcp_address, models, cors_origins=settings.cors.origins)
    admin.mount(PLAYGROUND, playground_application(page))
    configs = {name: gate.config for name, gate in gates.items()}
    long_standing = 86_400.0 * settings.callers.long_standing_days
    dashboard_models = [
        DashboardModel(name, config.mode, config.tariff, config.drift_monitor, long_standing)
        for name, config in configs.items()
    ]
    admin.mount(DASHBOARD, dashboard_application(shared.ledger, dashboard_models, clock))
    admin.mount(API, api_application(AdminApi(settings, gates, shared.ledger, shared.state, clock), API))
    return AdminAuth(admin, settings.admin_token.get_secret_value() if settings.admin_token else None)
