"""Whose conversation is whose, and how long one is kept after its user has left.

What this file is: plain objects and a timer, without Gradio. Gradio's own state is kept
for an hour after its tab was closed, and without a limit where none of its handlers
hands it back.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from mm15_mlx.apps.state import Conversation

# Not published: our choice.
USERS = 100  # conversations kept at a time
GRACE_S = 120.0  # after a tab was closed: a phone that slept comes back
UNUSED_S = 86_400.0  # of a tab that never said that it closed


@dataclass
class _Kept:
    used: float
    conversation: Conversation = field(default_factory=Conversation)
    closed: bool = False


class Sessions:
    """Conversations by the name of their tab; for many threads."""

    def __init__(
        self,
        limit: int = USERS,
        grace: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """grace: seconds; clock: where they come from."""
        self.limit = limit
        self.grace = grace
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # the last used comes last
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, tab: str | None) -> Conversation:
        """The conversation of a tab, from now on in use; a new one where it has none.
        One without a name gets one that is not kept."""
        if not tab:
            return Conversation()
        with self._lock:
            kept = self._kept.setdefault(tab, _Kept(self._clock()))
            kept.used, kept.closed = self._clock(), False
            self._kept.move_to_end(tab)
            self._sweep()
            return kept.conversation

    def close(self, tab: str | None) -> None:
        """A tab is gone: its answer ends now, its pictures after the grace."""
        with self._lock:
            kept = self._kept.get(tab or "")
            if kept is None:
                return
            kept.used, kept.closed = self._clock(), True
            kept.conversation.stop()
        timer = threading.Timer(self.grace + 0.1, self.sweep)
        timer.daemon = True
        timer.start()

    def sweep(self) -> None:
        """Drop what need not be kept any longer."""
        with self._lock:
            self._sweep()

    def _sweep(self) -> None:
        now = self._clock()
        for tab, kept in list(self._kept.items()):
            patience = self.grace if kept.closed else UNUSED_S
            if now - kept.used > patience or len(self._kept) > self.limit:
                kept.conversation.clear()  # also ends an answer that is being written
                del self._kept[tab]
