"""The settings of a gateway: ``Settings`` and its parts that have no module of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from modeltoll.gateway.settings.body_limits import DEFAULT_BODIES, largest_redemption
from modeltoll.gateway.settings.callers import CallerSettings
from modeltoll.gateway.settings.environment import NESTED, PREFIX, EnvironmentSource
from modeltoll.gateway.settings.field_types import (
    IN_PROCESS,
    Address,
    HeaderName,
    ListenAddresses,
    ModelName,
    Origin,
    RootPath,
    Secret,
    each_once,
)
from modeltoll.gateway.settings.operation import OperationSettings, OperatorToken, is_loopback
from modeltoll.gateway.settings.secret_text import TextOrFile
from modeltoll.gateway.settings.served_models import ModelSettings, SettingsPart
from modeltoll.gateway.settings.upstream import UpstreamSettings

__all__ = ["CorsSettings", "LedgerSettings", "LimitSettings", "Settings"]

_MIB = 1 << 20


class LedgerSettings(SettingsPart):
    """Where accounts are kept, and what happens while the ledger does not answer."""

    url: Annotated[str, TextOrFile] = Field(
        "sqlite:///modeltoll.db",
        description="Where accounts are kept: `sqlite:///beside-the-settings.db`, `sqlite:////from/the/root.db`, `postgresql://user:password@host/database`, `valkey://user:password@host/0`, or `memory://`, which forgets them when the process ends. Options follow a `?`: `?keep_log_days=90` (30 if not set), and `?period_days=90`, after which the evidence against a caller starts anew. Gateways on one machine may share one file; gateways on several machines share one server.",
    )
    when_down: Literal["refuse", "release"] = Field(
        "refuse",
        description="What happens while the ledger does not answer. `refuse`: 503. `release`: answers go out at the row price, without suspicion and new-account toll, and `modeltoll_without_ledger_total` counts them.",
    )


class CorsSettings(SettingsPart):
    """Web pages that may call the public side from a browser: none, unless their origins are listed."""

    origins: tuple[Origin, ...] = Field(
        (),
        description="Origins whose pages may call the public side, such as `https://app.example.org`; `*` for all. The playground on the admin port needs `http://127.0.0.1:9090`. Keys are sent in headers, never in cookies.",
    )
    headers: tuple[HeaderName, ...] = Field(
        (),
        description="Further request headers that these pages may send, such as `X-Tenant`; `*` for all. The headers of the OpenAI SDK (`x-stainless-*`, `openai-*`), of tracing (`traceparent`, `tracestate`, `baggage`, `b3` and others), of tensors in binary and of tolls are always allowed; those of proxies, such as `X-Forwarded-For`, never.",
    )
    max_age_seconds: int = Field(
        600,
        ge=0,
        le=86400,
        description="How long browsers may keep the answer to a preflight. Chromium keeps it for at most 7200 s.",
    )


class LimitSettings(SettingsPart):
    """Limits on one request, and on all requests inside the gateway."""

    body_mib: float = Field(
        8.0,
        gt=0,
        le=64,
        description="Largest body of one request. A larger one gets 413. At most 64, so that an admission toll can hold it.",
    )
    rows: int = Field(1024, ge=1, description="Most rows of one request. A larger request gets 400.")
    waiting: int = Field(
        256,
        ge=1,
        description="Most requests inside the gateway at once, from the first byte of their bodies on. More get 503.",
    )
    caller_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of those places, and of `bodies_mib`, that one caller may hold of what the other callers leave; one request is always possible. More get 429. With 0.5 a lone caller has 128 of 256 places, the next one 64 of the other 128. 1 is for a service with a single key.",
    )
    bodies_mib: float | None = Field(
        None,
        gt=0,
        description="Most MiB of bodies inside the gateway at once, from their first byte until their requests are answered. A request that does not fit gets 503. If it is not set: 128, or as much as the largest body needs. Reading a body takes up to ten times its size for a moment; large bodies are read one after the other.",
    )
    message_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Longest time from the beginning of a call over gRPC to the end of its message, whose speed cannot be seen. After it the call gets DEADLINE_EXCEEDED. Messages that are read at the same time have at most `bodies_mib` together, each counted with `body_mib`; further ones wait.",
    )
    least_rate_kib: float = Field(
        1.0,
        ge=0.01,
        description="Least KiB per second at which a body must arrive. One that falls 10 s behind, or pauses for 10 s, gets 408 and is disconnected.",
    )


class Settings(BaseSettings):
    """The gateway's settings. ``MODELTOLL_UPSTREAM__URL`` and the like override the file."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        nested_model_default_partial_update=True,
    )

    listen: ListenAddresses = Field(
        "127.0.0.1:8080",
        description="Address of the public side, or a list of them: `HOST:PORT`, `[::1]:8080` for IPv6, `[::]:8080` for IPv4 and IPv6 on all interfaces, `unix:/run/modeltoll/public.sock?mode=0660` for a Unix socket whose file has that mode (0660 if none is given). TLS belongs to a proxy in front. A reload does not change it.",
    )
    listen_grpc: Address | None = Field(
        None,
        description="`HOST:PORT` of the public side over gRPC, where models of protocol `oip` are served as well: `127.0.0.1:8081`, `[::]:8081` for IPv4 and IPv6. None unless it is set. Needs `pip install 'modeltoll[grpc]'`. TLS belongs to a proxy in front. A reload does not change it.",
    )
    admin: Address = Field(
        "127.0.0.1:9090",
        description="`HOST:PORT` of the admin side: `/livez`, `/readyz`, `/metrics`, the dashboard at `/dashboard/`, the admin API at `/api/` and the playground at `/try/`. An address that other machines reach needs `admin_token`. A reload does not change it.",
    )
    admin_token: OperatorToken | None = Field(
        None,
        description="Token for the admin side, 16 to 256 printable characters: `MODELTOLL_ADMIN_TOKEN=$(openssl rand -hex 32)`. Browsers ask for it as a password, with any user name. `/livez`, `/readyz` and `/metrics` do not need it.",
    )
    root_path: RootPath = Field(
        "",
        description="Path below which a proxy in front serves the gateway, such as `/ml`, if the proxy passes it on: nginx with `location /ml/ { proxy_pass http://gateway; }`. A proxy that removes it (`proxy_pass http://gateway/;`) needs nothing here.",
    )
    upstream: UpstreamSettings
    ledger: LedgerSettings = LedgerSettings()
    callers: CallerSettings = CallerSettings()
    limits: LimitSettings = LimitSettings()
    cors: CorsSettings = CorsSettings()
    operation: OperationSettings = OperationSettings()
    secrets: tuple[Secret, ...] = Field(
        (),
        description="Keys that encrypt the tokens of redeem mode, each 32 random bytes in hexadecimal: `openssl rand -hex 32`. The first one encrypts, all of them decrypt; to rotate, put a new one in front. Gateways that share callers need the same list. Without any, tokens are valid only at this gateway, until it stops.",
    )
    profile: Path | None = Field(
        None,
        description="Profile of the machine whose seconds all work is counted in. Without it the shipped one is used. `modeltoll bench-puzzle --save machine.json` makes one.",
    )
    models: Mapping[ModelName, ModelSettings] = Field(
        min_length=1,
        description="The models that are served, by the names in their routes: letters, digits, `_ . -`, at most 64.",
    )

    @model_validator(mode="after")
    def _tolls_can_be_redeemed(self) -> Settings:
        for name, model in self.models.items():
            if model.mode == "enforce" and "redeem" not in model.puzzle.modes:
                raise ValueError(
                    f"models.{name}.puzzle.modes: add redeem; admission tolls, and clients that keep no receipts, need it"
                )
        return self

    @property
    def listen_addresses(self) -> tuple[str, ...]:
        """All addresses of the public side."""
        return (self.listen,) if isinstance(self.listen, str) else self.listen

    @property
    def tcp_address(self) -> str:
        """The first ``HOST:PORT`` of the public side; empty where it has Unix sockets only."""
        return next((address for address in self.listen_addresses if not address.startswith("unix:")), "")

    @property
    def largest_redemption(self) -> int:
        """The most bytes of a redemption: of a token that holds the largest request or the largest answer."""
        return largest_redemption(int(self.limits.body_mib * _MIB), int(self.upstream.max_answer_mib * _MIB))

    @property
    def max_bodies(self) -> int:
        """The most bytes of bodies inside the gateway at once."""
        largest = max(int(self.limits.body_mib * _MIB), self.largest_redemption)
        stated = self.limits.bodies_mib
        return max(DEFAULT_BODIES, largest) if stated is None else int(stated * _MIB)

    @model_validator(mode="after")
    def _each_body_fits(self) -> Settings:
        needed = max(int(self.limits.body_mib * _MIB), self.largest_redemption)
        if self.max_bodies < needed:
            raise ValueError(
                f"limits.bodies_mib: is below {needed / _MIB:.1f}, which the largest body needs (of a request, or of a token with an answer of upstream.max_answer_mib)"
            )
        return self

    @model_validator(mode="after")
    def _sides_are_apart(self) -> Settings:
        if self.admin in self.listen_addresses and not self.admin.endswith(":0"):
            raise ValueError(
                f"admin: is {self.admin}, as listen is; callers would reach the admin side: choose another port"
            )
        return self

    @model_validator(mode="after")
    def _grpc_has_a_model(self) -> Settings:
        others = [name for name, model in self.models.items() if model.protocol != "oip"]
        if self.listen_grpc is not None:
            if self.upstream.url == IN_PROCESS:
                raise ValueError("listen_grpc: is for modeltoll serve; an application with the gate in it serves HTTP")
            if len(others) == len(self.models):
                raise ValueError("listen_grpc: no model is of protocol oip, the only one that is served over gRPC")
            if self.listen_grpc in (*self.listen_addresses, self.admin) and not self.listen_grpc.endswith(":0"):
                raise ValueError("listen_grpc: is the address of listen or admin: choose another port")
        if self.upstream.is_grpc and others:
            raise ValueError(
                f"upstream.url: a model server over gRPC is asked in protocol oip; {others[0]} is of another"
            )
        return self

    @model_validator(mode="after")
    def _operators_are_known(self) -> Settings:
        if self.admin_token is None and not is_loopback(self.admin):
            raise ValueError(
                "admin: is open to other machines: set MODELTOLL_ADMIN_TOKEN (openssl rand -hex 32), or listen on 127.0.0.1"
            )
        return self

    @field_validator("secrets")
    @classmethod
    def _secrets_once(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        each_once((secret.get_secret_value() for secret in secrets), "a secret")
        return secrets

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file."""
        return EnvironmentSource(settings_cls), init_settings
