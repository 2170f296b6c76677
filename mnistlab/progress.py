"""How far a training of several runs is: for a notebook's cell and for the terminal."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from mnistlab.runs import RunSpec
from mnistlab.schedule import Progress, cost

ENDED = ("trained", "failed")


@dataclass
class Tally:
    """What the progress reports of a training add up to.

    `last` is the latest report of each run, `resumed` the epochs that a run had when
    it began.
    """

    specs: Sequence[RunSpec]
    begun: float = field(default_factory=time.monotonic)
    last: dict[RunSpec, Progress] = field(default_factory=dict)
    resumed: dict[RunSpec, int] = field(default_factory=dict)
    expected: float = 0.0  # processor seconds, before there is anything to go by

    @property
    def forecast(self) -> str:
        """What the training may take, in words, before its first epoch."""
        return forecast(self.expected)

    def note(self, progress: Progress) -> None:
        """Take in one report."""
        if progress.kind == "started":
            self.resumed[progress.spec] = len(progress.history)
        if not progress.history and progress.spec in self.last:  # a failure has none
            history = self.last[progress.spec].history
            progress = Progress(progress.kind, progress.spec, history, progress.message)
        self.last[progress.spec] = progress

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.begun

    @property
    def ended(self) -> int:
        """How many runs have ended, well or not."""
        return sum(progress.kind in ENDED for progress in self.last.values())

    @property
    def running(self) -> list[Progress]:
        """The latest report of each run that has begun and not ended."""
        return [p for p in self.last.values() if p.kind not in ENDED]

    def _epochs(self, spec: RunSpec) -> int:
        """The epochs trained since the beginning."""
        progress = self.last.get(spec)
        trained = len(progress.history) if progress else 0
        return max(trained - self.resumed.get(spec, 0), 0)

    @property
    def images_a_second(self) -> float:
        """Images trained on in a second, over all runs and the whole time."""
        images = sum(self._epochs(spec) * spec.task.train_size for spec in self.specs)
        return images / max(self.elapsed, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the multiply-adds done and to do; None before the first."""
        done = left = 0.0
        for spec in self.specs:
            progress = self.last.get(spec)
            an_epoch = cost(spec) / spec.task.epochs
            done += an_epoch * self._epochs(spec)
            if progress is None or progress.kind not in ENDED:
                trained = len(progress.history) if progress else 0
                left += an_epoch * (spec.task.epochs - trained)
        return self.elapsed * left / done if done else None


def forecast(seconds: float) -> str:
    """How long trainings may take, and what would be shorter.

    >>> forecast(5400.0)
    'About 1:30 h of one core; profile quick takes minutes, smoke seconds.'
    """
    if not seconds:
        return ""
    text = f"About {duration(seconds)} of one core"
    if seconds < 300:
        return f"{text}."
    return f"{text}; profile quick takes minutes, smoke seconds."


def words(progress: Progress) -> str:
    """What a report says, for people: how far a run is, and how it ended."""
    history, epochs = progress.history, progress.spec.task.epochs
    if progress.kind == "failed":
        return f"failed: {progress.message}"
    text = f"epoch {len(history)} of {epochs}"
    if history:
        text += f", accuracy {100 * history[-1]['val_accuracy']:.2f} %"
    return text if progress.kind == "epoch" else f"{progress.kind}, {text}"


def duration(seconds: float | None) -> str:
    """A time for people.

    >>> duration(7), duration(75), duration(5400), duration(None)
    ('7 s', '1:15 min', '1:30 h', '?')
    """
    if seconds is None:
        return "?"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"
