"""The subcommand `reproduce`: published figures again. Importing it does not load JAX."""

import sys
import time
from pathlib import Path
from typing import Any

from learndyn.atlas import Entry, entries, entry_of, reproduce


def list_entries() -> int:
    """Print one entry a line, the name first, then the claim and what it shows. Returns: 0."""
    known = entries()
    width = max(len(entry.name) for entry in known)
    for entry in known:
        print(f"{entry.name:<{width}}  {entry.claim:<10}  {entry.shows}")
    return 0


class ReproduceCommand:
    """What the options of `learndyn reproduce` ask for, and which entries are finished."""

    def __init__(self, options: Any):
        self.options = options
        self.written: list[str] = []
        self.explained = 0

    def run(self) -> int:
        """Run the entries one after another, and write and print each as it is finished.

        Returns: 0, or 1 where a run fails, or a number is missed that is not known for it.
        Raises: ValueError for names that are not in the atlas, or none; OSError for files.
        """
        from learndyn._extras import require_extra

        require_extra("matplotlib", "plot", "learndyn reproduce")
        chosen = _chosen(self.options)
        self._require_room(chosen)
        failed = [entry.name for entry in chosen if not self._reproduced(entry)]
        if len(chosen) > 1:
            words = f"; not so: {', '.join(failed)}" if failed else ""
            known = f", but for {self.explained} numbers known to be missed" * bool(self.explained)
            print(f"{len(chosen) - len(failed)} of {len(chosen)} entries agree{known}{words}")
        return 1 if failed else 0

    def kept(self) -> str:
        """What an interruption leaves."""
        if not self.written:
            return "nothing was finished, so nothing is written"
        return f"{', '.join(self.written)} are written to {str(self.options.output)!r}"

    def _files(self, entry: Entry) -> list[Path]:
        return [self.options.output / f"{entry.name}{end}" for end in (".nc", ".png", ".svg")]

    def _require_room(self, chosen: list[Entry]) -> None:
        """Raises: OSError where no file can be written, or one is there and --force not given."""
        from learndyn.datasets import require_writable

        files = [file for entry in chosen for file in self._files(entry)]
        for file in files[:1]:
            require_writable(file)
        if not self.options.force and (there := [str(file) for file in files if file.exists()]):
            more = f" and {len(there) - 3} more" if len(there) > 3 else ""
            raise FileExistsError(
                f"{', '.join(there[:3])}{more} would be replaced: add --force, or choose another "
                "--output."
            )

    def _reproduced(self, entry: Entry) -> bool:
        """Run one entry, print its table and write its files. Returns: whether all agrees."""
        began = time.perf_counter()
        try:
            found = reproduce(entry.name, self.options.quick)
        except (ValueError, ArithmeticError, ImportError) as error:
            # The others can still be made.
            print(f"{entry.name}: failed: {error}\n", file=sys.stderr)
            return False
        print("\n".join(found.lines()))
        self._write(found)
        self.written.append(entry.name)
        self.explained += len(found.missed) - len(found.unexplained)
        files = self._files(entry)
        print(f"  wrote {files[0]}, .png, .svg ({time.perf_counter() - began:.1f} s)\n", flush=True)
        return not found.unexplained

    def _write(self, found: Any) -> None:
        from learndyn import plot
        from learndyn.datasets import save

        dataset, *pictures = self._files(found.entry)
        save(found.to_dataset(), dataset)
        figure = found.figure()
        for path in pictures:
            plot.save(figure.axes[0], path)


def _chosen(options: Any) -> list[Entry]:
    """The entries named, each once. Raises: ValueError for none, or for names with --all."""
    if options.all and options.names:
        raise ValueError("--all stands for all entries: leave the names out, or --all.")
    if options.all:
        return list(entries())
    if not options.names:
        raise ValueError("name entries, such as goldt2020-fig2a, or give --all or --list.")
    return [entry_of(name) for name in dict.fromkeys(options.names)]
