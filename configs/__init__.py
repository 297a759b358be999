"""Run configurations: every module offers `get_config()` for one run a user would start."""
