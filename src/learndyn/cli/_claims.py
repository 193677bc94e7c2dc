"""The subcommand `report`."""

from pathlib import Path

from learndyn.claims import build, faults, lines


def rebuild_page(folder: Path) -> int:
    """Write the scorecard and the page again. Returns: 1 where something is wrong, else 0.

    Wrong is what `learndyn.claims.faults` finds: a claim that does not hold, crashed or is missing,
    or more false alarms than allowed.
    Raises: ValueError where there is no settled claim.
    """
    card = build(folder)
    if card is None:
        raise ValueError(
            f"{str(folder)!r} holds no settled claim; run `nox -s validate`, or name its folder."
        )
    print("\n".join(lines(card)))
    print(f"Report: {folder / 'index.html'}")
    return 1 if faults(card) else 0
