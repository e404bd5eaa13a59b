"""Turns at computing: as many heavy computations run at once as the machine has cores for; the others wait.

The short work of a page (Start, Forward, Schedules) has a place of its own, so that it never waits for long work.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Set before torch is imported: its threads must sleep, not spin, while they wait for each other. Beside other work on
# two cores, ten guided digits then take 0.7 s instead of 4 s.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

Tell = Callable[[float | None, str], None]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
CORES_EACH = 4  # more threads than these do little for networks as small as ours
PLACES = max(1, CORES // CORES_EACH)
POLL = 0.2  # seconds between checks of the queue, which also notice that a visitor has left
SLICE = 0.5  # the least seconds that a turn lasts before it is passed on
WEIGHT = 10.0  # seconds of waiting that count as much as one second of computing
WEIGHT_OF_HOLDER = 2.0  # the same for a request that others wait for, because it has what they need


class Stopwatch:
    """Measure seconds of work: call `report` with each progress; a part of None means that the work waits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._spent, self._since = clock, 0.0, clock()

    def report(self, part: float | None) -> None:
        """Pause while the work waits, continue when it works, restart at part 0."""
        now = self._clock()
        if part is None:
            self._spent, self._since = self.seconds, None
        elif part == 0:
            self._spent, self._since = 0.0, now
        elif self._since is None:
            self._since = now

    @property
    def seconds(self) -> float:
        """Seconds of work since part 0."""
        return self._spent + (0.0 if self._since is None else self._clock() - self._since)


class Request:
    """One answer that a visitor waits for: a run of a page, or a job. All its computations share one rank.

    arrived: when the visitor asked; held: seconds for which its computations had a turn; holding: of how many things
    that others need it is the only user (a model, the worker of all jobs).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.arrived, self.held, self.holding = clock(), 0.0, 0

    @property
    def rank(self) -> float:
        """The lowest rank computes first: one that arrived early and has computed little. None waits for ever.

        A holder gives way less readily: while it waits for a turn, all who need the same thing wait too.
        """
        return self.arrived + (WEIGHT_OF_HOLDER if self.holding else WEIGHT) * self.held

    @contextmanager
    def as_holder(self) -> Iterator[None]:
        """Count as the only user of something that others need."""
        self.holding += 1
        try:
            yield
        finally:
            self.holding -= 1


_thread = threading.local()


def _request(clock: Callable[[], float] = time.monotonic) -> Request:
    """The request that this thread computes for; a new one for a thread that computes for none."""
    return getattr(_thread, "request", None) or Request(clock)


@contextmanager
def computing(request: Request) -> Iterator[None]:
    """Count all turns that this thread takes here towards one request.

    Without this, a page of forty short computations would join the end of the queue forty times, and a job that
    waited for the worker would be treated as if its visitor had just asked.
    """
    outer, _thread.request = getattr(_thread, "request", None), request
    try:
        yield
    finally:
        _thread.request = outer


class Turn:
    """A computation's turn at the machine. Call it as a `Tell`: between two steps the turn may pass to another.

    alone: whether no other computation ran, or waited, while it had its turn.
    """

    def __init__(self, turns: "Turns", tell: Tell) -> None:
        self.turns, self.tell, self.alone, self.since = turns, tell, True, 0.0
        self.request = _request(turns.clock)

    @property
    def rank(self) -> float:
        """The rank of its request."""
        return self.request.rank

    def count(self) -> None:
        """Add the seconds since its place was taken, or last counted, to the request's."""
        now = self.turns.clock()
        self.request.held, self.since = self.request.held + now - self.since, now

    def __call__(self, part: float | None, doing: str = "") -> None:
        self.tell(part, doing)
        self.turns.pass_on(self)


class Turns:
    """At most `places` computations run at once; the others wait in the order of their rank.

    A thread that already has a turn keeps it when it asks for another.
    """

    def __init__(self, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.places, self.clock = places, clock
        self._queue = threading.Condition()
        self._holding: list[Turn] = []
        self._waiting: list[Turn] = []
        self._own = threading.local()

    @property
    def busy(self) -> int:
        """How many computations run or wait."""
        with self._queue:
            return len(self._holding) + len(self._waiting)

    @contextmanager
    def turn(self, tell: Tell) -> Iterator[Turn]:
        """Wait for a place and hold it; tell is called during the wait, and may raise to give up."""
        if (outer := getattr(self._own, "turn", None)) is not None:
            yield outer
            return
        turn = self._own.turn = Turn(self, tell)
        try:
            self._take(turn)
            yield turn
        finally:
            self._own.turn = None
            self._leave(turn)

    def pass_on(self, turn: Turn) -> None:
        """If a waiting computation has a lower rank, give it the place, and wait for the next one."""
        with self._queue:
            if turn not in self._holding or self.clock() - turn.since < SLICE:
                return
            turn.count()
            if not any(other.rank < turn.rank for other in self._waiting):
                return
            self._holding.remove(turn)
            self._queue.notify_all()
        self._take(turn)

    def _take(self, turn: Turn) -> None:
        with self._queue:
            self._waiting.append(turn)
        while True:
            with self._queue:
                before = sum(other.rank < turn.rank for other in self._waiting if other is not turn)
                if before < self.places - len(self._holding):
                    self._waiting.remove(turn)
                    self._holding.append(turn)
                    turn.since = self.clock()
                    if len(self._holding) + len(self._waiting) > 1:
                        for one in (*self._holding, *self._waiting):
                            one.alone = False
                    return
                for one in (*self._holding, *self._waiting):
                    one.alone = False
                self._queue.wait(POLL)
                before = sum(other.rank < turn.rank for other in self._waiting if other is not turn)
                before += len(self._holding)
            turn.tell(None, f"waiting for its turn, {before} before you")

    def _leave(self, turn: Turn) -> None:
        with self._queue:
            if turn in self._holding:
                turn.count()
                self._holding.remove(turn)
            else:
                self._waiting.remove(turn)
            self._queue.notify_all()


HEAVY, LIGHT = Turns(PLACES), Turns(1)


@contextmanager
def held(lock: threading.Lock, tell: Tell, words: str) -> Iterator[None]:
    """Hold a lock. While another thread holds it, call tell(None, words); give up if tell raises."""
    while not lock.acquire(timeout=POLL):
        tell(None, words)
    try:
        with _request().as_holder():
            yield
    finally:
        lock.release()


def warm_up() -> None:
    """Import what every page needs, and run a small network once, so that the first visitor does not wait for that."""
    from diffusion_explained import load_pretrained, plots  # noqa: F401
    from diffusion_explained.film import film_of

    share_the_cores()
    film_of(list(load_pretrained("mnist_unet_flow").steps([0], num_inference_steps=1)), 1)


def share_the_cores() -> None:
    """Give each place its share of the cores; call this after torch was imported."""
    import torch

    torch.set_num_threads(max(1, min(torch.get_num_threads(), CORES // PLACES)))
