"""Array operations that the method and the backbones share."""
