"""An endless stream of training samples that depends on the seed and the position alone.

Every sample of the stream has a position 0, 1, 2, ... The position gives the image (a fresh permutation every
epoch) and the random numbers of its augmentations. So batches are the same for any number of workers, and a
run that is resumed at iteration n goes on with the samples that an uninterrupted run would have seen.
"""

from __future__ import annotations

import logging
import multiprocessing
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.utils import comm
from torch.utils.data import Dataset, Sampler


class StreamSampler(Sampler):
    """Yields (position, index) pairs without end; each process takes its share of every batch."""

    def __init__(self, size: int, seed: int, samples_per_iteration: int, groups: Sequence[int] | None = None) -> None:
        """
        Args:
            size: number of images.
            seed: the same in every process.
            samples_per_iteration: over all processes; a multiple of their number.
            groups: the group of every image, of which a batch holds one; only what is left over at the end of an epoch
                makes mixed batches. None: images of all kinds share batches.
        """
        if size < 1:
            raise ValueError("the training set is empty")
        self.size, self.seed, self.samples_per_iteration = size, seed, samples_per_iteration
        self.start_iteration = 0
        self._groups = None if groups is None else np.asarray(groups)
        self._rank, self._world_size = comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self.start_iteration * self.samples_per_iteration + self._rank
        epoch, order = -1, np.empty(0, dtype=np.int64)
        while True:
            if position // self.size != epoch:
                epoch = position // self.size
                order = self._order(epoch)
            yield position, int(order[position % self.size])
            position += self._world_size

    def _order(self, epoch: int) -> np.ndarray:
        """The images of an epoch, each once."""
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(self.size)
        if self._groups is None:
            return order
        batch = self.samples_per_iteration
        begun = -epoch * self.size % batch  # so many images complete the last batch of the epoch before
        rest, batches, left = order[begun:], [], []
        for group in np.unique(self._groups):
            members = rest[self._groups[rest] == group]
            whole = len(members) // batch * batch
            batches += list(members[:whole].reshape(-1, batch))
            left.append(members[whole:])
        shuffled = [batches[index] for index in rng.permutation(len(batches))]
        return np.concatenate([order[:begun], *shuffled, *left])


class SeededDataset(Dataset):
    """Maps the records of the stream, each with its own random numbers; can pass over unreadable files."""

    def __init__(
        self,
        records: Sequence[dict[str, Any]],
        mapper: Callable[[dict[str, Any]], dict[str, Any]],
        seed: int,
        max_unreadable: int = 0,
    ) -> None:
        """
        Args:
            records: the data set.
            mapper: raises OSError or ValueError for a file that cannot be used.
            seed: of the augmentations.
            max_unreadable: so many different records may fail; each is replaced by the next one, with a
                warning.
        """
        self.records, self.mapper, self.seed, self.max_unreadable = records, mapper, seed, max_unreadable
        # one flag a record, shared by the workers of this process
        self._unreadable = multiprocessing.Array("b", len(records))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        position, index = key
        for step in range(len(self.records)):
            candidate = (index + step) % len(self.records)
            try:
                with seeded(self.seed, position):
                    return self.mapper(self.records[candidate])
            except (OSError, ValueError) as error:
                self._pass_over(candidate, error)
        raise ValueError(f"none of the {len(self.records)} training images can be read")

    def _pass_over(self, index: int, error: Exception) -> None:
        known = bool(self._unreadable[index])
        self._unreadable[index] = 1
        count = sum(self._unreadable)
        if count > self.max_unreadable:
            raise ValueError(
                f"{error} (training images that cannot be used: {count}, "
                f"DATALOADER.MAX_UNREADABLE: {self.max_unreadable})"
            ) from error
        if not known:
            logging.getLogger(__name__).warning(f"passing over a training image ({count} so far): {error}")


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Inside, the global generators of `random` and NumPy follow from `seed`; then they are as before."""
    states = random.getstate(), np.random.get_state()
    words = np.random.SeedSequence(seed).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
