"""The one exception of this library: something its user can put right."""


class GammaError(ValueError):
    """Names the user's own thing, what was expected, and what to type next."""
