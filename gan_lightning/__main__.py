"""Entry point of `gan-lightning`."""


def main() -> None:
    """Run the command line."""
