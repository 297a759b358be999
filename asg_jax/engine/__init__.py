"""What every method needs: a model and its programs, texts and arrays, roles that learn."""
