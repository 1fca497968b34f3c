"""A stop by signal that does not wait for a long epoch's end."""

import atexit
import signal
import sys

from retable.train.context import StopRequest

GRACE_SECONDS = 15.0


class PromptStop(StopRequest):
    """SIGTERM and SIGINT end a run at the next epoch's end, or inside an epoch that has not ended 15 seconds later.

    A run saves its state at an epoch's end when the last one is 20 seconds old, so what a stop inside an epoch loses is
    that epoch and at most 20 seconds before it. Clusters send SIGKILL about 30 seconds after SIGTERM.
    """

    def _note(self, number: int, frame: object) -> None:
        if self.signal is not None:
            raise SystemExit(128 + number)
        self.signal = number
        print(
            f"stopping after this epoch, in {GRACE_SECONDS:g} s at the latest; once more to stop at once",
            file=sys.stderr,
            flush=True,
        )
        self.limit()

    def limit(self) -> None:
        """Give up the running epoch when the grace, which begins once, is over (main thread only)."""
        if signal.getitimer(signal.ITIMER_REAL)[0]:
            return
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)  # Python's own end may take a while, too
        signal.signal(signal.SIGALRM, self._give_up)
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

    def _give_up(self, number: int, frame: object) -> None:
        print("stopped inside an epoch; the same command goes on from the last saved one", file=sys.stderr, flush=True)
        raise SystemExit(128 + (self.signal or signal.SIGTERM))
