"""Who calls."""

from typing import Final

from shared.domain.api_keys import Scope
from shared.domain.ids import Principal
from shared.domain.values import value

# The owner of the first admin key.
ADMIN: Final = Principal("admin")


@value
class Caller:
    """The owner of an API key, with the key's scopes. With `admin` he sees and may do everything."""

    key_id: str
    principal: Principal
    scopes: frozenset[Scope]
    admin: bool

    def may_see(self, owner: str) -> bool:
        """Whether the caller may see what belongs to this owner."""
        return self.admin or owner == self.principal
