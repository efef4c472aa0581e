"""The process that `tellerline up --detach` starts. Arguments: a pipe and the data dir; options on standard input."""

import json
import sys
from pathlib import Path

from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.detached import serve
from tellerline.local_stack.supervisor.plan import Options

sys.exit(serve(int(sys.argv[1]), DataDir(Path(sys.argv[2])), Options(**json.load(sys.stdin))))
