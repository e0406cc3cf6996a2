"""Token vectors as arrays in files, and the search over them; imports neither pandas nor PyTerrier."""
