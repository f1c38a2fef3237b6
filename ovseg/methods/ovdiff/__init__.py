"""OVDiff: the method, its support images, prototypes and their store, matching, cost."""
