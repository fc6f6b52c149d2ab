"""Parameters of tests of which the first stands for all, where minutes count."""

import pytest


def beyond_first(values):
    """All of the values, those after the first marked ``thorough``: CI runs these, too."""
    first, *others = values
    return [first, *(pytest.param(each, marks=pytest.mark.thorough) for each in others)]
