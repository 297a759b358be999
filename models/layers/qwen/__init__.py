"""What models around a Qwen2-VL or Qwen2.5-VL share."""
