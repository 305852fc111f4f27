"""Noise levels and noise of a sample, and what the model has to say about it. Rectified flow: x_t = (1 - sigma) x0 + sigma eps.

Why a table: the trainer of the paper draws one of 1,000 levels, the largest 1, the smallest 0.001; `noise_table = 0` draws them from all numbers. The
shift s moves them towards noise: sigma = s u / (1 + (s - 1) u). Everything is drawn for a place in the data (the cursor), not for a process.
"""

import math

import numpy

from .order import NOISE, draw


def shifted(u, shift):
    return shift * u / (1 + (shift - 1) * u)


def level(generator, scheme, shift, table):
    """A noise level. `table`: how many there are, 0 for all numbers."""
    u = generator.random() if scheme == "uniform" else 1 / (1 + math.exp(-generator.standard_normal()))
    if table:
        # Like a scheduler's list of timesteps, the table descends from 1.
        u = (table - min(int(u * table), table - 1)) / table
    return shifted(u, shift)


def of_sample(settings, table, cursor, shape):
    """Noise level, noise, and whether the caption is left empty, for the sample at a cursor."""
    generator = draw(settings.seed, NOISE, cursor)
    sigma = level(generator, settings.noise_levels, settings.train_shift, table)
    empty = generator.random() < settings.caption_dropout
    return sigma, generator.standard_normal(shape, dtype=numpy.float32), empty


def mix(x0, eps, sigma):
    """x_t, for a batch of noise levels."""
    sigma = sigma.view(-1, 1, 1, 1, 1)
    return (1 - sigma) * x0 + sigma * eps
