"""The subcommand `report`."""

from pathlib import Path

from learndyn.report import build, lines


def rebuild_page(folder: Path) -> int:
    """Write the scorecard and the page again. Returns: 1 where a claim does not hold, else 0.

    Raises: ValueError where there is no settled claim.
    """
    card = build(folder)
    if card is None:
        raise ValueError(
            f"{str(folder)!r} holds no settled claim; run `nox -s validate`, or name its folder."
        )
    print("\n".join(lines(card)))
    print(f"Report: {folder / 'index.html'}")
    return 0 if bool((card.passed & card.control_rejected).all()) else 1
