"""The program ``uma``: the same as ``python -m uma_lib``."""


def main() -> None:
    # before all that takes time to import
    from uma_lib.processes import end_at_signals

    end_at_signals("uma_lib")
    from uma_lib.__main__ import main

    main()
