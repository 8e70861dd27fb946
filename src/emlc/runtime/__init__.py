"""The machine: files, devices, processes, precision, and random numbers by position."""
