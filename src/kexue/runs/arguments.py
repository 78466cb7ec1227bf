"""The command line of an experiment."""

import argparse
import fnmatch
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kexue.runs.run import runs_folder


def command_line(
    experiment: str,
    scales: Mapping[str, Any],
    recordings: Mapping[str, Any],
    run: Callable[[Any, Path], Mapping[str, Any]],
) -> None:
    """What `python -m kexue.experiments.<experiment>` does.

    Args:
        experiment: its name.
        scales: a configuration for each of "live", "run" and "gpu"; every field is an option.
        recordings: the configuration of every recorded run, "<name>/<trial>": what `--record` runs.
        run: trains one configuration in a folder.
    """
    import tyro  # belongs to the extra "book"

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--scale", choices=list(scales))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--record", metavar="PATTERN")
    options, rest = parser.parse_known_args()
    if options.record is not None:
        if rest or options.folder or options.scale:
            parser.error("--record goes alone: the recorded configurations stand in the script")
        chosen = [name for name in recordings if fnmatch.fnmatch(name, options.record)]
        if not chosen:
            parser.error(f"--record: no run matches {options.record!r}; there are {', '.join(recordings)}")
        for name in chosen:
            print(name, json.dumps(run(recordings[name], runs_folder() / name)), flush=True)
        return
    scale = options.scale or "run"
    description = (
        f"--scale {{{','.join(scales)}}} chooses the defaults below. --folder FOLDER: where to record. "
        "--record PATTERN, alone: all of the book's runs whose name matches and that are not finished."
    )
    config = tyro.cli(type(scales["run"]), default=scales[scale], args=rest, description=description)
    folder = options.folder or Path("_build", "runs", f"{experiment}-{scale}", str(config.seed))
    print(json.dumps(run(config, folder), indent=1))
