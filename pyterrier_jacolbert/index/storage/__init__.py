"""Arrays, manifests and docnos on disk, written so that an index is whole or absent."""
