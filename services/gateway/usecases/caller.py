"""The caller of a request, as its API key says."""

from typing import Final

from shared.domain.api_keys import Scope
from shared.domain.ids import Principal
from shared.domain.values import value

# The principal of the admin key in the settings.
ADMIN: Final = Principal("admin")


@value
class Caller:
    """The owner of an API key, with the key's scopes. With `admin` the caller sees and may do everything."""

    key_id: str
    principal: Principal
    scopes: frozenset[Scope]
    admin: bool

    def may(self, *scopes: Scope) -> bool:
        """Whether the key has one of these scopes."""
        return self.admin or not self.scopes.isdisjoint(scopes)

    def may_see(self, owner: str) -> bool:
        """Whether the caller may see what belongs to this owner."""
        return self.admin or owner == self.principal

    @property
    def sees_only(self) -> Principal | None:
        """The only owner whose accounts, transactions and mixes the caller may see; None: those of every owner."""
        return None if self.admin else self.principal
