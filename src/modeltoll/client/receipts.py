"""Receipts of opened seals, kept until a gateway has them, and the tolls that are being paid at the moment.

A gateway counts a sealed toll as unpaid until it sees the receipt from inside the seal. So each receipt goes back with
the next request to the same gateway with the same credentials, or in a request of its own (``settling``).

A call that is asked to pay for admission waits for a toll of its account that is being paid: with its receipt the call
may be admitted. Each toll that ends lets one call go on, in their order, so that many calls need few requests.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from modeltoll import wire
from modeltoll.client.forks import ForkSafeLock

__all__ = ["Account", "Flight", "HeldReceipt", "Receipts", "Settlement"]

_DAY = 24 * 3600.0  # after which a gateway ignores a receipt
_MAX_HELD = 1_000  # receipts
_MAX_FLIGHT_WAIT = 300.0


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a gateway sees: the origin of its URL (``https://api.example.org``), and the credentials of a request."""

    origin: str
    authorization: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)

    def headers(self) -> dict[str, str]:
        """The credentials as headers."""
        credentials = {"Authorization": self.authorization, "X-Api-Key": self.api_key}
        return {name: value for name, value in credentials.items() if value}


@dataclass(frozen=True, slots=True, eq=False)
class HeldReceipt:
    """An opaque receipt. ``path``: where it may be posted. ``at``: when its seal was opened. ``owner``: who posts it."""

    account: Account
    path: str
    receipt: bytes = field(repr=False)
    at: float
    owner: object

    def fits(self, path: str) -> bool:
        """Whether a request to that path reaches the gateway of this receipt: whether it has the same prefix."""
        return path.startswith(self.path.removesuffix(wire.SETTLE_PATH) + "/")


@dataclass(frozen=True, slots=True)
class Settlement:
    """Receipts to post to one URL with one account's credentials."""

    held: tuple[HeldReceipt, ...]

    @property
    def account(self) -> Account:
        return self.held[0].account

    @property
    def url(self) -> str:
        return self.account.origin + self.held[0].path

    @property
    def headers(self) -> dict[str, str]:
        return self.account.headers() | {"Content-Type": "application/json"}

    @property
    def body(self) -> bytes:
        return wire.encode_settlement(tuple(one.receipt for one in self.held))


@dataclass(slots=True, eq=False)
class Flight:
    """One call on its way through its tolls. ``thread``: in which it solves one, 0 before that.

    ``waiting``: until a toll of another call ends.
    """

    thread: int = 0
    waiting: bool = False

    def enter_thread(self) -> None:
        """Record that the calling thread solves the toll."""
        self.thread = threading.get_ident()


class Receipts:
    """At most 1,000 receipts, each for at most 24 h; the oldest is dropped first. Thread-safe.

    Every method is one atomic step. A receipt is with exactly one taker at a time, who delivers it or puts it back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lock = ForkSafeLock(self._forget_all)
        self._held: dict[Account, list[HeldReceipt]] = {}
        self._flights: dict[Account, set[Flight]] = {}  # of tolls that are being paid
        self._queues: dict[Account, deque[Flight]] = {}  # of calls that wait

    def _forget_all(self) -> None:
        """In a forked process: receipts are with their owner, and calls that are in progress are its parent's."""
        self._held, self._flights, self._queues = {}, {}, {}

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._held.values()))

    def add(self, account: Account, path: str, receipt: bytes, owner: object = None) -> None:
        """Keep the receipt of a seal that was opened now. One that no gateway would read is ignored."""
        if 1 <= len(receipt) <= wire.MAX_RECEIPT_BYTES:
            self.put_back([HeldReceipt(account, path, receipt, self.clock(), owner)])

    def put_back(self, taken: Iterable[HeldReceipt]) -> None:
        """Keep receipts that were taken and not delivered."""
        with self._lock:
            for one in taken:
                held = self._held.setdefault(one.account, [])
                held.append(one)
                held.sort(key=lambda each: each.at)
            self._forget()

    def take_for_request(self, account: Account, path: str) -> tuple[HeldReceipt, ...]:
        """The oldest receipts that a request to ``path`` can return, at most ``wire.MAX_HEADER_RECEIPTS``."""
        with self._lock:
            if account not in self._held:
                return ()
            self._forget()
            fitting = [one for one in self._held.get(account, ()) if one.fits(path)]
            return self._take(fitting[: wire.MAX_HEADER_RECEIPTS])

    def take_for_settlement(self, owner: object, age: float = 0.0) -> Settlement | None:
        """Receipts of ``owner`` that are at least ``age`` seconds old, of one URL and account; None if there are none."""
        with self._lock:
            self._forget()
            latest = self.clock() - age
            own = [one for one in self._all() if one.owner is owner and one.at <= latest]
            same = [one for one in own if (one.account, one.path) == (own[0].account, own[0].path)]
            taken = self._take(same[: wire.MAX_SETTLEMENT_RECEIPTS])
            return Settlement(taken) if taken else None

    def seconds_until(self, owner: object, age: float) -> float | None:
        """Seconds until the oldest receipt of ``owner`` is ``age`` seconds old; None if there is none."""
        with self._lock:
            self._forget()
            oldest = min((one.at for one in self._all() if one.owner is owner), default=None)
            return None if oldest is None else max(oldest + age - self.clock(), 0.0)

    @contextmanager
    def flight(self, account: Account) -> Iterator[Flight]:
        """A call, until the block ends, however it ends; then one of those that wait goes on."""
        flight = Flight()
        try:
            yield flight
        finally:
            with self._lock:
                self._leave_queue(account, flight)
                if self._stop(account, flight) and (queue := self._queues.get(account)):
                    self._start(account, queue[0])

    def start(self, account: Account, flight: Flight) -> None:
        """Count the toll of a call as being paid from now on."""
        with self._lock:
            self._start(account, flight)

    def may_help(self, account: Account, path: str, flight: Flight) -> bool:
        """Whether a request to ``path`` could return receipts now, or when the tolls of other calls are opened."""
        with self._lock:
            self._forget()
            return bool(self._others(account, flight)) or any(one.fits(path) for one in self._held.get(account, ()))

    def has_others(self, account: Account, flight: Flight) -> bool:
        """Whether tolls of other calls are being paid."""
        with self._lock:
            return bool(self._others(account, flight))

    def turn(self, account: Account, flight: Flight, until: float) -> Callable[[], bool]:
        """Let a call wait; the function says whether it is its turn, from which on its toll counts as being paid.

        That is when the toll of another call has ended, or none is being paid, or the time is ``until``. A call that has
        had a turn in vain is the next. Tolls that are solved in the calling thread do not count, so that no thread waits
        for itself.
        """
        with self._lock:
            queue = self._queues.setdefault(account, deque())
            flight.waiting = True
            if self._stop(account, flight):
                queue.appendleft(flight)
            else:
                queue.append(flight)

        def ready() -> bool:
            with self._lock:
                if flight.waiting and (not self._others(account, flight) or self.clock() >= until):
                    self._start(account, flight)
                return not flight.waiting

        return ready

    def until(self, deadline: float | None) -> float:
        """The time until which a call waits, with this limit in seconds, at most 300."""
        return self.clock() + min(_MAX_FLIGHT_WAIT if deadline is None else deadline, _MAX_FLIGHT_WAIT)

    def _start(self, account: Account, flight: Flight) -> None:
        self._leave_queue(account, flight)
        self._flights.setdefault(account, set()).add(flight)

    def _stop(self, account: Account, flight: Flight) -> bool:
        """Whether a toll of that call was being paid, and is so no longer."""
        flights = self._flights.get(account, set())
        if flight not in flights:
            return False
        flights.discard(flight)
        if not flights:
            del self._flights[account]
        return True

    def _leave_queue(self, account: Account, flight: Flight) -> None:
        if flight.waiting:
            flight.waiting = False
            queue = self._queues[account]
            queue.remove(flight)
            if not queue:
                del self._queues[account]

    def _others(self, account: Account, flight: Flight) -> list[Flight]:
        own = threading.get_ident()
        return [other for other in self._flights.get(account, ()) if other is not flight and other.thread != own]

    def _all(self) -> Iterator[HeldReceipt]:
        return (one for held in self._held.values() for one in held)

    def _take(self, taken: list[HeldReceipt]) -> tuple[HeldReceipt, ...]:
        if taken:
            account, removed = taken[0].account, set(taken)
            self._keep(account, [one for one in self._held[account] if one not in removed])
        return tuple(taken)

    def _keep(self, account: Account, held: list[HeldReceipt]) -> None:
        if held:
            self._held[account] = held
        else:
            self._held.pop(account, None)

    def _forget(self) -> None:
        """Drop receipts of yesterday, and the oldest above the limit. Those of an account are in order of time."""
        oldest = self.clock() - _DAY
        for account, held in list(self._held.items()):
            if held[0].at < oldest:
                self._keep(account, [one for one in held if one.at >= oldest])
        excess = sum(map(len, self._held.values())) - _MAX_HELD
        for one in sorted(self._all(), key=lambda each: each.at)[: max(excess, 0)]:
            self._take([one])
