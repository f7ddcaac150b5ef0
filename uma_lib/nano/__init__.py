"""The CPU policy: a scripted demonstrator, what the base is warm-started on, and the base itself."""
