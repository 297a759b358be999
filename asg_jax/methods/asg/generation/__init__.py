"""The generation step: its texts (host) and its signals, rewards and update (device)."""
