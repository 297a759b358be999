"""BAGEL: a mixture-of-transformers that draws by rectified flow (arXiv 2505.14683)."""
