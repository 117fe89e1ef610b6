"""The worker: claims bundles and supervises the engine that answers them."""
