"""The operator's side: health and metrics, the page to try the toll, the dashboard and the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.gateway.admin.api.app import api_application
from modeltoll.gateway.admin.api.operations import AdminApi
from modeltoll.gateway.admin.auth import AdminAuth
from modeltoll.gateway.admin.dashboard.app import dashboard_application
from modeltoll.gateway.admin.dashboard.models import DashboardModel
from modeltoll.gateway.admin.health import admin_application
from modeltoll.gateway.admin.playground.app import PlaygroundConfig, PlaygroundModel, playground_application

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modeltoll.gateway.assembly.gateway import SharedResources
    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.settings.load import Settings
    from modeltoll.gateway.upstream.upstream import Upstream

__all__ = ["DASHBOARD", "DESK", "PAGE", "build_admin"]

PAGE, DASHBOARD, DESK = "/try", "/dashboard", "/api"


def build_admin(
    settings: Settings,
    gates: Mapping[str, Gate],
    upstream: Upstream,
    ground: SharedResources,
    clock: Callable[[], float],
) -> AdminAuth:
    """All of it, behind the operator's token where the settings have one."""
    subjects = {name: gate.road.subject for name, gate in gates.items()}
    ready_path = next(iter(subjects.values())).ready_path
    admin = admin_application(upstream, ready_path, ground.ledger, ground.telemetry, ground.standing)
    models = tuple(PlaygroundModel(name, each.infer_path, each.metadata_path) for name, each in subjects.items())
    admin.mount(PAGE, playground_application(PlaygroundConfig(settings.listen, models)))
    shown = [DashboardModel(name, gate.road.mode, gate.road.tariff, gate.road.monitor) for name, gate in gates.items()]
    admin.mount(DASHBOARD, dashboard_application(ground.ledger, shown, clock))
    admin.mount(DESK, api_application(AdminApi(settings, gates, ground.ledger, ground.standing, clock), DESK))
    return AdminAuth(admin, settings.admin_token.get_secret_value() if settings.admin_token else None)
