"""Studies: trainings that belong together, run, kept and drawn as one."""
