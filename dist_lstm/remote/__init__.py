"""Run directories on object stores: objects, who may write them, and a local mirror. Known to `storage` alone."""
