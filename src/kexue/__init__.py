"""Executable Scientific Spaces: eight articles of 科学空间 (kexue.fm), re-derived and checked.

One module per article (`kexue.smoothing`, ...). Importing `kexue` alone imports nothing else,
torch included; import the module you need.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("kexue")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
