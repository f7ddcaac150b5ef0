"""uma_lib: a reproducibility kit for the Unified Memory Agent, small enough to run on a laptop.

    >>> from uma_lib import MemoryAgent  # a memory over your own text: see `uma_lib.assistant`

The modules import one another only downwards, in the order given in the README. Nothing is imported here before it is
asked for, so that the parts without torch (`memory`, `tools`, `scoring`, `ledger`, `assistant`) stay light.
"""

__version__ = "0.1.0"
__all__ = ["MemoryAgent", "__version__"]


def __getattr__(name: str) -> object:
    if name == "MemoryAgent":
        from uma_lib.assistant import MemoryAgent

        return MemoryAgent
    raise AttributeError(f"module 'uma_lib' has no attribute {name!r}")
