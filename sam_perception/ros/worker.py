"""One thread that always works on the newest item."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Generic, TypeVar

Item = TypeVar("Item")


class LatestWorker(Generic[Item]):
    """Handles items in a thread of its own; an item that comes while it is busy replaces the one that waits.

    So there is never a backlog: whatever the handler takes, the next item is the newest one. Long work that can be
    cut into steps is done beside: one step after each item, and one after the other while there is none.

    Args:
        handle: called in the thread, once per item.
        on_error: called in the thread with what `handle` raised; the thread goes on.
    """

    def __init__(self, handle: Callable[[Item], None], on_error: Callable[[Exception], None], name: str) -> None:
        self._handle = handle
        self._on_error = on_error
        self._changed = threading.Condition()
        self._waiting: Item | None = None
        self._chores: deque[Generator[object, None, None]] = deque()
        self._stopping = False
        self._busy_since_s: float | None = None
        # A daemon: a model that takes long over one picture must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def busy_since_s(self) -> float | None:
        """When the item, or the step of long work, was begun that the thread is at; None while it waits."""
        return self._busy_since_s

    @property
    def thread_id(self) -> int | None:
        """The thread's own, as Python numbers them."""
        return self._thread.ident

    def offer(self, item: Item) -> bool:
        """Leave an item for the thread, without waiting; whether it took the place of another one."""
        with self._changed:
            replaced = self._waiting is not None
            self._waiting = item
            self._changed.notify()
            return replaced

    def take_up(self, chore: Generator[object, None, None]) -> None:
        """Let the thread go through `chore` step by step; it is closed where the thread ends before."""
        with self._changed:
            if not self._stopping:
                self._chores.append(chore)
                self._changed.notify()
                return
        chore.close()

    def clear(self) -> None:
        """Forget the item that waits."""
        with self._changed:
            self._waiting = None

    def stop(self, timeout_s: float) -> bool:
        """Take no more items; whether the thread has ended within the time."""
        with self._changed:
            self._stopping = True
            self._waiting = None
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._waiting is not None or self._chores)
                if self._stopping:
                    break
                item, self._waiting = self._waiting, None
            if item is not None:
                self._do(partial(self._handle, item))
            self._do(self._do_chore)
        for chore in self._chores:
            chore.close()

    def _do(self, work: Callable[[], None]) -> None:
        self._busy_since_s = time.monotonic()
        try:
            work()
        except Exception as error:
            self._on_error(error)
        finally:
            self._busy_since_s = None

    def _do_chore(self) -> None:
        """One step of the chore whose turn it is."""
        if not self._chores:
            return
        try:
            next(self._chores[0])
        except StopIteration:
            self._chores.popleft()
        except Exception:
            self._chores.popleft()
            raise
