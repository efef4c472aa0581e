"""How the baseline refuses: RFC 9457, with the codes of docs/API.md."""

from typing import Final

STATUS_OF: Final = {
    "same_account": 422,
    "account_not_found": 422,
    "asset_mismatch": 422,
    "account_frozen": 422,
    "account_closed": 422,
    "insufficient_funds": 422,
    "limit_exceeded": 422,
}


class Refusal(Exception):
    """A request that gets a problem instead of an outcome."""

    def __init__(self, status: int, code: str, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.funds: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    def body(self, request_id: str) -> dict[str, object]:
        """The problem's members."""
        members: dict[str, object] = {
            "type": f"/problems/{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
            **self.funds,
        }
        if self.field is not None:
            members["errors"] = [{"field": self.field, "message": self.detail}]
        return members
