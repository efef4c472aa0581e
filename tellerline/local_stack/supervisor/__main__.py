"""The process that `tellerline up --detach` starts. Arguments: a pipe and the data dir; options on standard input."""

import os
import sys

from tellerline.local_stack.supervisor.detached import options_from_text, serve

sys.exit(serve(os.fdopen(int(sys.argv[1]), "w", encoding="utf-8"), options_from_text(sys.stdin.read())))
