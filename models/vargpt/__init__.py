"""VARGPT-v1.1: Qwen2-VL and a next-scale decoder of bits in one model."""
