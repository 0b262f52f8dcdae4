"""How much of the router one tenant may take."""

from __future__ import annotations

from pydantic import Field

from eventsink.runtime.settings import Settings


class TenantQuota(Settings):
    """What one tenant may take; 0: no bound."""

    waiting_deliveries: int = Field(default=0, ge=0)
    """Deliveries that may wait for the sinks of a tenant. Beyond it nothing more is queued for them until a part has arrived: of each alert
    that fires, its newest state is kept and sent then; events are dropped. 0: no bound but that of the queue."""
    waiting_bytes: int = Field(default=0, ge=0)
    """The same of what waits, in bytes; one notification may exceed it. 0: no bound."""
    rate: int = Field(default=0, ge=0)
    """Deliveries a second that are queued for the sinks of a tenant, on average; the same applies beyond it. 0: no bound."""
    burst: int = Field(default=0, ge=0)
    """Deliveries that may be queued at once after a quiet time, where there is a rate. 0: what the rate allows in ten seconds."""


class QuotaOverride(Settings):
    """What is different for one tenant; what is absent is as `quotas.default` says."""

    waiting_deliveries: int | None = Field(default=None, ge=0)
    """As `quotas.default.waitingDeliveries`, of this tenant."""
    waiting_bytes: int | None = Field(default=None, ge=0)
    """As `quotas.default.waitingBytes`, of this tenant."""
    rate: int | None = Field(default=None, ge=0)
    """As `quotas.default.rate`, of this tenant."""
    burst: int | None = Field(default=None, ge=0)
    """As `quotas.default.burst`, of this tenant."""


class QuotaSettings(Settings):
    """What each tenant may take, so that one that sends too much harms itself alone."""

    default: TenantQuota = TenantQuota()
    tenants: dict[str, QuotaOverride] = Field(default={}, max_length=10_000)
    """Tenant -> what is different for it, such as `acme: {waitingDeliveries: 50000, rate: 100}`; `*`: for the platform's own sinks."""

    def of(self, tenant: str) -> TenantQuota:
        """What a tenant may take."""
        override = self.tenants.get(tenant)
        return self.default.model_copy(update=override.model_dump(exclude_none=True)) if override is not None else self.default
