"""Numbers computed from model outputs: pure functions of arrays, batched and masked."""
