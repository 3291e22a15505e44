"""Things that a trial makes once: an image that failed is not built again for the next test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Key = TypeVar("Key")
Thing = TypeVar("Thing")
Failure = TypeVar("Failure", bound=Exception)


@dataclass
class Once(Generic[Key, Thing, Failure]):
    """Things by key, each made at the first call; or how that failed."""

    failure: type[Failure]
    """Error that is remembered; any other one is the caller's."""
    shorten: Callable[[Failure], Failure] = lambda failure: failure
    """Shortens the error for whoever asks again."""
    made: dict[Key, Thing] = field(default_factory=dict)
    _failed: dict[Key, Failure] = field(default_factory=dict)

    def get(self, key: Key, make: Callable[[], Thing]) -> Thing:
        """The thing of that key.

        Raises:
            Failure: it can't be made, now or when it was first asked for.
        """
        if key in self._failed:
            raise self._failed[key]
        if key not in self.made:
            try:
                self.made[key] = make()
            except self.failure as failure:
                self._failed[key] = self.shorten(failure)
                raise
        return self.made[key]
