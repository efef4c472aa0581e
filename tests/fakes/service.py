"""`python -m tests.fakes.service`: all that a supervisor sees of a service. Ready at once, ends on SIGTERM.

FAKE_PORT is where it answers, FAKE_FOLDER where each start leaves a file; with FAKE_EXIT it ends at once, with
FAKE_MISSING it is ready only once it has said some times what is missing.
"""

import http.server
import itertools
import os
import signal
import sys
from pathlib import Path
from types import FrameType

ASKED = itertools.count()
NOT_READY_TIMES = 20


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        missing = os.environ.get("FAKE_MISSING") if next(ASKED) < NOT_READY_TIMES else None
        self.send_response(404 if self.path != "/readyz" else 503 if missing else 200)
        self.end_headers()
        self.wfile.write((missing or "").encode())


def end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    folder = Path(os.environ["FAKE_FOLDER"])
    folder.mkdir(parents=True, exist_ok=True)
    variables = "".join(f"{name}={value}\n" for name, value in sorted(os.environ.items()))
    (folder / f"start-{os.getpid()}").write_text(variables, encoding="utf-8")
    if code := os.environ.get("FAKE_EXIT"):
        sys.exit(f"this fake service was told to end with {code}")
    signal.signal(signal.SIGTERM, end)
    http.server.HTTPServer(("127.0.0.1", int(os.environ["FAKE_PORT"])), Health).serve_forever()


if __name__ == "__main__":
    main()
