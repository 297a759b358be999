"""Losses of the roles, and the running numbers that updates need."""
