"""What a second question about the same picture need not pay for again."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx

FEATURE_BYTES = 256 << 20
KV_BYTES = 256 << 20


class Store(Protocol):
    """Visual tokens (M, D) that outlive the program; see features.py."""

    def load(self, model: Any, key: str, tokens: int) -> mx.array | None: ...

    def save(self, model: Any, key: str, features: mx.array) -> None: ...

    def forget(self) -> None: ...


class NoStore:
    """Nothing outlives the program."""

    def load(self, model: Any, key: str, tokens: int) -> mx.array | None:
        return None

    def save(self, model: Any, key: str, features: mx.array) -> None:
        pass

    def forget(self) -> None:
        pass


NO_STORE = NoStore()


@dataclass(eq=False)
class _Conversation:
    """A KV cache that holds exactly `keys`."""

    keys: list[int]
    cache: list[Any]
    kind: object

    @property
    def nbytes(self) -> int:
        return sum(c.nbytes for c in self.cache)

    def shared(self, keys: list[int]) -> int:
        """How many of `keys` stand at its beginning."""
        same = 0
        for a, b in zip(self.keys, keys, strict=False):
            if a != b:
                break
            same += 1
        return same


class Memory:
    """Visual tokens by picture content, and the KV caches of recent conversations.

    It serves one model at a time and forgets everything when the model changes.
    `store` is asked for visual tokens before the encoder is.
    """

    def __init__(
        self, feature_bytes: int = FEATURE_BYTES, kv_bytes: int = KV_BYTES
    ) -> None:
        self.feature_bytes = feature_bytes
        self.kv_bytes = kv_bytes
        self.store: Store = NO_STORE
        self._features: OrderedDict[str, mx.array] = OrderedDict()
        self._conversations: list[_Conversation] = []  # the oldest first
        self._model: object = None

    def serve(self, model: object) -> None:
        """Called before use: what another model computed is dropped."""
        if self._model is not model:
            self.forget()
            self._model = model

    def forget(self) -> None:
        """Drop everything; to be called when the model's weights have changed."""
        self._features.clear()
        self._conversations.clear()
        self.store.forget()

    def features(self, key: str, encode: Callable[[], mx.array]) -> mx.array:
        """The visual tokens kept under `key`, computed by `encode` if there are none.

        The oldest are dropped beyond `feature_bytes`; the newest always stays.
        """
        if key not in self._features:
            encoded = encode()
            mx.eval(encoded)
            self._features[key] = encoded
        self._features.move_to_end(key)
        while len(self._features) > 1 and self._size() > self.feature_bytes:
            self._features.popitem(last=False)
        return self._features[key]

    def _size(self) -> int:
        return sum(f.nbytes for f in self._features.values())

    def resume(
        self, keys: list[int], make_cache: Callable[[], list[Any]], kind: object = None
    ) -> tuple[list[Any], int]:
        """A KV cache and how many of `keys` it already holds.

        Only a cache kept as the same `kind` is used: how it is quantised, say. At least
        the last key is left over: its logits are the answer's first. The cache is
        handed over, not shared: `keep` gives it back.
        """
        best, same = None, 0
        for kept in reversed(self._conversations):
            if kept.kind == kind and all(c.is_trimmable() for c in kept.cache):
                shared = kept.shared(keys[:-1])
                # Handing over ends that conversation. It is not worth that where more
                # is cut off than shared: two pictures have the words before them in
                # common.
                if shared > same and 2 * shared >= len(kept.keys):
                    best, same = kept, shared
        if best is None:
            return make_cache(), 0
        self._conversations.remove(best)
        for c in best.cache:
            c.trim(len(best.keys) - same)
        return best.cache, same

    def keep(self, keys: list[int], cache: list[Any], kind: object = None) -> None:
        """Remember a cache that holds exactly `keys`.

        The oldest are dropped beyond `kv_bytes`; the newest always stays.
        """
        self._conversations.append(_Conversation(keys, cache, kind))
        kept = self._conversations
        while len(kept) > 1 and sum(c.nbytes for c in kept) > self.kv_bytes:
            del kept[0]
