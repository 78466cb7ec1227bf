"""One training loop for all experiments: resumable, recorded, the same on one process or several.

Whatever is random in a step is drawn from a generator that depends on the seed and the step alone, for
the whole batch, of which each process takes its share. So parameters and optimiser are all the state
there is: a run that was killed goes on to the same end, two processes follow the curve of one, and the
first steps of a recorded run can be run again and compared (`replay`).

A run is a folder, `runs/<name>/<trial>/` (the trial is the seed, if nothing else varies): run.json with the
module that made it, its configuration, environment and summary and the hashes of all; metrics.csv; and, where
a chapter needs them, weights.safetensors in half precision. `measure` records what trains nothing.
"""

from kexue.runs.arguments import command_line
from kexue.runs.loop import FIRST, Loss, train
from kexue.runs.measured import measure
from kexue.runs.recipe import train_network, train_transformer
from kexue.runs.recorder import Config, different_settings, digest, processor, sha256
from kexue.runs.run import Run, recorded, runs_folder, table
from kexue.runs.step import Metrics, Step, cosine, set_seed, warm_up_then_down

__all__ = [
    "FIRST",
    "Config",
    "Loss",
    "Metrics",
    "Run",
    "Step",
    "command_line",
    "cosine",
    "different_settings",
    "digest",
    "measure",
    "processor",
    "recorded",
    "runs_folder",
    "set_seed",
    "sha256",
    "table",
    "train",
    "train_network",
    "train_transformer",
    "warm_up_then_down",
]
