"""What somebody who owns the database could do to the journal, and the row that `verify` must name for it."""

from tests.integration.tampering.accounts import ACCOUNTS, ASSETS
from tests.integration.tampering.batches import BATCHES
from tests.integration.tampering.case import Case
from tests.integration.tampering.entries import AMOUNTS, PLACES
from tests.integration.tampering.lists import LISTS
from tests.integration.tampering.operations import HOLDS, OPERATIONS
from tests.integration.tampering.transit import POSTINGS, TRANSIT

CASES = (*AMOUNTS, *PLACES, *OPERATIONS, *ACCOUNTS, *BATCHES, *TRANSIT, *POSTINGS, *HOLDS, *ASSETS, *LISTS)

__all__ = ["CASES", "Case"]
