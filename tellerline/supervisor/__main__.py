"""`python -m tellerline.supervisor PIPE DATA_DIR`, options on standard input: what `tellerline up --detach` starts."""

import os
import sys

from tellerline.supervisor.detached import options_from_text, serve

sys.exit(serve(os.fdopen(int(sys.argv[1]), "w", encoding="utf-8"), options_from_text(sys.stdin.read())))
