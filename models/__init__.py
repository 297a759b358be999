"""The backbones: Flax modules, checkpoint maps and processors that implement asg_jax.backbone."""
