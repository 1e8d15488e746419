"""The gateway and its peers, side by side over the same services: `python -m benchmarks --help`."""
