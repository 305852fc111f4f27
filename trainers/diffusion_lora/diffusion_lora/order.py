"""Which sample comes when: a function of the cursor, the number of samples, and the seed alone.

Why so: arrival times, the number of processes and restarts then cannot change what is trained on, and a resumed training is the undisturbed one, byte
by byte. Each pass over the samples is a permutation of its own; a training that begins before the spool is sealed takes the first pass in the order
of the manifest. A sample that is left out is replaced by the one that follows it in that pass, so that nothing else moves. Pure.
"""

import numpy

# What random numbers are drawn for: the second half of the key, so that streams do not overlap.
SHUFFLE, NOISE, EVALUATION, POSTERIOR, VIDEO = range(1, 6)


def draw(seed, purpose, number):
    """A generator of its own for each number: Philox with a key of seed and purpose; the counter's upper half is the number."""
    key, counter = (numpy.array(words, dtype=numpy.uint64) for words in ([seed, purpose], [0, 0, number, 0]))
    return numpy.random.Generator(numpy.random.Philox(key=key, counter=counter))


class Order:
    """`in_order`: the first pass is in the order of the manifest and may begin before all samples are there."""

    def __init__(self, seed, in_order):
        self.seed, self.in_order = seed, in_order
        self._epoch, self._permutation = None, None

    def at(self, cursor, count, sealed, left_out):
        """Number of the sample at a cursor, or None while that cannot be known. `left_out`: numbers of samples."""
        if not sealed and (not self.in_order or cursor >= count):
            return None
        if sealed and len(left_out) >= count:
            return None
        epoch, place = divmod(cursor, count) if sealed else (0, cursor)
        for _ in range(count):
            index = self._index(epoch, place, count)
            if index not in left_out:
                return index
            place += 1
            if place >= count:
                if not sealed:
                    return None
                place = 0
        return None

    def _index(self, epoch, place, count):
        if epoch == 0 and self.in_order:
            return place
        if self._epoch != (epoch, count):
            self._epoch, self._permutation = (epoch, count), draw(self.seed, SHUFFLE, epoch).permutation(count)
        return int(self._permutation[place])
