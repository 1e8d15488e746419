"""`python -m bff`."""

from bff.cli import command

if __name__ == "__main__":
    command()
