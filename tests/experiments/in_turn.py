"""Several runs of experiments after each other in one process, or in each that torchrun starts.

python tests/experiments/in_turn.py RUNS.json

RUNS.json holds a list of [name of the script, its arguments, None or after how many steps to leave]. A
Python, PyTorch and the data that scripts share are then loaded once for all, not once for each.
"""

import functools
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from replay import experiment  # noqa: E402

from kexue import runs  # noqa: E402

for name, arguments, stop_after in json.loads(Path(sys.argv[1]).read_text("utf-8")):
    print(name, *arguments, file=sys.stderr, flush=True)  # says which it was, should it fail
    script = experiment(ROOT / "src/kexue/experiments" / f"{name}.py")
    run = script.run if stop_after is None else functools.partial(script.run, stop_after=stop_after)
    sys.argv = [f"{name}.py", *arguments]
    runs.command_line(name, script.SCALES, script.RECORDINGS, run)
