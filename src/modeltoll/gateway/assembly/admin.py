"""The operator's side: health and metrics, the page to try the toll, the dashboard and the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltoll.gateway.admin.api.app import desk_application
from modeltoll.gateway.admin.api.operations import Desk
from modeltoll.gateway.admin.auth import Guarded
from modeltoll.gateway.admin.dashboard.app import dashboard_application
from modeltoll.gateway.admin.dashboard.models import Shown
from modeltoll.gateway.admin.health import admin_application
from modeltoll.gateway.admin.playground.app import Offer, OfferedModel, page_application

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modeltoll.gateway.assembly.gateway import Ground
    from modeltoll.gateway.core.gate import Gate
    from modeltoll.gateway.settings.load import Settings
    from modeltoll.gateway.upstream.http_upstream import Upstream

__all__ = ["DASHBOARD", "DESK", "PAGE", "build_admin"]

PAGE, DASHBOARD, DESK = "/try", "/dashboard", "/api"


def build_admin(
    settings: Settings, gates: Mapping[str, Gate], upstream: Upstream, ground: Ground, clock: Callable[[], float]
) -> Guarded:
    """All of it, behind the operator's token where the settings have one."""
    subjects = {name: gate.road.subject for name, gate in gates.items()}
    ready_path = next(iter(subjects.values())).ready_path
    admin = admin_application(upstream, ready_path, ground.ledger, ground.telemetry, ground.standing)
    models = tuple(OfferedModel(name, each.infer_path, each.metadata_path) for name, each in subjects.items())
    admin.mount(PAGE, page_application(Offer(settings.listen, models)))
    shown = [Shown(name, gate.road.mode, gate.road.tariff, gate.road.monitor) for name, gate in gates.items()]
    admin.mount(DASHBOARD, dashboard_application(ground.ledger, shown, clock))
    admin.mount(DESK, desk_application(Desk(settings, gates, ground.ledger, ground.standing, clock), DESK))
    return Guarded(admin, settings.admin_token.get_secret_value() if settings.admin_token else None)
