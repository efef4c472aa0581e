"""Settings of the gateway."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from services.gateway.http.request import BODY_BYTES_MAX
from services.gateway.http.sources import parse_networks
from shared.domain.api_keys import KEY_RULE, KEY_TEXT
from shared.runtime.settings import LedgerSettings


class GatewaySettings(LedgerSettings):
    """Limits on clients have defaults that suit one machine; `rate_per_s_max` 0 means no limit.

    One principal may use half of the requests in flight, of the bytes of bodies, and of the connections to PostgreSQL.

    `admin_key_file`: read again while the gateway runs, so that another key in it replaces the first one.
    """

    admin_key: SecretStr | None = None
    admin_key_file: Path | None = None

    header_timeout_s: float = Field(default=5.0, gt=0)
    body_timeout_s: float = Field(default=10.0, gt=0)
    idle_timeout_s: float = Field(default=75.0, gt=0)
    write_timeout_s: float = Field(default=20.0, gt=0)
    connections_max: int = Field(default=4_096, gt=0)
    requests_in_flight_max: int = Field(default=4_096, ge=2)
    # Of bodies that have begun to arrive and are not complete.
    bodies_bytes_max: int = Field(default=64 * 1024 * 1024, ge=2 * BODY_BYTES_MAX)

    # Token bucket of each API key: requests per second, and how many may come at once after a pause.
    rate_per_s_max: float = Field(default=0.0, ge=0)
    rate_burst_max: int = Field(default=200, gt=0)

    # Unknown API keys of one source: so many a second, and so many at once after a pause. The rest is 429.
    failures_per_s_max: float = Field(default=20.0, gt=0)
    failures_burst_max: int = Field(default=200, gt=0)
    # Networks whose X-Forwarded-For is believed, such as `10.0.0.0/8, 192.0.2.7`. Otherwise a source is the peer.
    trusted_balancers: str = ""

    # For how many seconds a cached key is trusted: a revoked one is refused after this at the latest.
    key_age_s_max: float = Field(default=1.0, gt=0)
    # Connections to PostgreSQL for requests, of which two are for writes alone. Keys and readiness have three more.
    pool_size_max: int = Field(default=8, ge=4)

    @field_validator("trusted_balancers")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        parse_networks(text)
        return text

    @field_validator("admin_key")
    @classmethod
    def check_admin_key(cls, key: SecretStr | None) -> SecretStr | None:
        """Raises ValueError for a key that no request could use."""
        if key is not None and not KEY_TEXT.fullmatch(key.get_secret_value()):
            raise ValueError(KEY_RULE)
        return key
