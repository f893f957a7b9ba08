"""Models from the hub: what a repository offers, and its files brought into the cache that other tools share."""
