"""BLIP3o: Qwen2.5-VL, and diffusion of CLIP features that a UNet turns into pictures."""
