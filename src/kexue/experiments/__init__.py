"""The long trainings behind the chapters, one module each: `python -m kexue.experiments.<name>`."""
