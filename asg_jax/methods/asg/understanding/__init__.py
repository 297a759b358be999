"""The understanding step: its texts (host) and its signals, rewards and updates (device)."""
