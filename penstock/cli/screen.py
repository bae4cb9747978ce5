"""What commands show people."""

from rich.console import Console

from penstock.errors import PenstockError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def fail(error: PenstockError) -> None:
    """Show an error of ours: its message, then what to do."""
    err.print("error:", style="bold red", end=" ")
    err.print(error.message, markup=False, soft_wrap=True)
    if error.hint:
        err.print(f"hint:  {error.hint}", markup=False, style="yellow", soft_wrap=True)
