"""One module per upstream service: its records, and its batched reads and calls."""
