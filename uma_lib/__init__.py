"""uma_lib: a reproducibility kit for the Unified Memory Agent, small enough to run on a laptop.

The modules import one another only downwards, in the order given in the README. Nothing is imported here, so
that the parts without torch (`memory`, `tools`, `scoring`, `ledger`, `credit`) stay light.
"""

__version__ = "0.1.0"
