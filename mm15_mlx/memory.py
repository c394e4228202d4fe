"""What a second question about the same picture need not pay for again."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import mlx.core as mx

FEATURE_BYTES = 256 << 20


class Memory:
    """Visual tokens by picture content, and the last conversation's KV cache.

    It serves one model at a time and forgets everything when the model changes.
    """

    def __init__(self, feature_bytes: int = FEATURE_BYTES) -> None:
        self.feature_bytes = feature_bytes
        self._features: OrderedDict[str, mx.array] = OrderedDict()
        self._model: object = None
        self.forget()

    def serve(self, model: object) -> None:
        """Called before use: what another model computed is dropped."""
        if self._model is not model:
            self.forget()
            self._model = model

    def forget(self) -> None:
        """Drop everything; to be called when the model's weights have changed."""
        self._features.clear()
        self._keys: list[int] = []
        self._kind: object = None
        self._cache: list[Any] | None = None

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
        cache, known = self._cache, self._keys
        self._cache, self._keys = None, []
        if cache is None or kind != self._kind:
            return make_cache(), 0
        if not all(c.is_trimmable() for c in cache):
            return make_cache(), 0
        same = 0
        for a, b in zip(known, keys[:-1], strict=False):
            if a != b:
                break
            same += 1
        if same == 0:
            return make_cache(), 0
        for c in cache:
            c.trim(len(known) - same)
        return cache, same

    def keep(self, keys: list[int], cache: list[Any], kind: object = None) -> None:
        """Remember a cache that holds exactly `keys`."""
        self._keys, self._cache, self._kind = keys, cache, kind
