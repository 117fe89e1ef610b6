"""How a transformers model attends under sparse attention configs."""
