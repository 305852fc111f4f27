"""An exponential moving average of the adapter.

Why a warm-up: after 50 steps of decay 0.999 the average would still be 95 % of the first weights. At step t at most (1 + t) / (10 + t) is kept.
Before `start_step` the average follows the weights.
"""

from .ranks import local


def decay_at(settings, step):
    """Share that is kept at a step, counted from 1."""
    t = step - settings.start_step
    if t <= 0:
        return 0.0
    return min(settings.decay, (1 + t) / (10 + t)) if settings.warmup else settings.decay


class Average:
    """Of parameters, also of parts of them. Call everything without gradients."""

    def __init__(self, settings, parameters):
        self.settings, self.parameters = settings, parameters
        self.values = [p.detach().clone() for p in parameters]

    def update(self, step):
        weight = 1 - decay_at(self.settings, step)
        for value, parameter in zip(self.values, self.parameters):
            local(value).lerp_(local(parameter.detach()), weight)

    def swap(self):
        """Average and weights change places; a second call undoes it."""
        for value, parameter in zip(self.values, self.parameters):
            kept = local(value).clone()
            local(value).copy_(local(parameter.detach()))
            local(parameter.detach()).copy_(kept)
