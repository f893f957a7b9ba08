"""What there is only while layers are streamed, or have been: files, readers, and what they are told to do."""

from __future__ import annotations

from pagewise.engine.llamacpp.model import Model
from pagewise.placement.experts import Experts
from pagewise.placement.pages import MappedFile
from pagewise.placement.plan import Layout, read_ahead
from pagewise.placement.readers import Readers
from pagewise.placement.streamer import Streamer


class HeldElsewhere(OSError):
    """Pages of the file are not ours alone."""


class InHand:
    """One model in hand. ``close`` it before the model is freed."""

    def __init__(self, model: Model, layers: Layout, n_used: int, locks: bool) -> None:
        """Raises OSError where the file is not mapped, or a sandbox forbids the calls."""
        self._steps = layers.steps
        self._files: list[MappedFile] = []
        self.ahead = read_ahead(None, None)
        try:
            for header in model.file.headers:
                file = MappedFile(header.path, locks=locks)
                self._files.append(file)
                file.steer()
            for part, start, end in layers.rows:
                self._files[part].rows_only(start, end)
            block = next((block for block in layers.blocks if not block.pinned), layers.blocks[0])
            if not self._files[block.part].gives_back(block.start, block.end):
                raise HeldElsewhere("What is dropped of the file stays in memory: another program may have it mapped")
        except OSError:
            self._close_files()
            raise
        self.readers = Readers(self._files)
        # An expert that is waited for goes first, one that may be needed last.
        self.experts = Experts(self.readers, layers.experts, n_used) if layers.experts is not None else None
        self.streamer = Streamer(self.readers, layers.blocks, len(layers.steps))
        if self.experts is not None:
            self.experts.watch_idle()
        self.readers.start()

    def done(self, step: int) -> None:
        """A layer has been computed."""
        if self.experts is not None:
            self.experts.done(self._steps[step])
        self.streamer.done(step)

    def forget(self) -> None:
        """The kernel may have taken what was kept."""
        self.streamer.forget()
        if self.experts is not None:
            self.experts.forget()

    @property
    def waited_s(self) -> float:
        """Time that the computing thread has waited for the disk."""
        return self.streamer.waited_s + (self.experts.waited_s if self.experts is not None else 0.0)

    @property
    def missed_pct(self) -> float | None:
        """Of the experts that were needed, those that were not there."""
        experts = self.experts
        return (
            100 * experts.missed_count / experts.chosen_count if experts is not None and experts.chosen_count else None
        )

    @property
    def locked(self) -> bool:
        """Whether all that is kept could be locked."""
        return all(file.locked for file in self._files)

    def close(self) -> None:
        """End the threads and let go of the files."""
        self.readers.close()
        self._close_files()

    def _close_files(self) -> None:
        for file in self._files:
            file.close()
