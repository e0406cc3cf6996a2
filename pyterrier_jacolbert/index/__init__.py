"""The index as arrays and files: arrays in, arrays out; nothing here knows pandas or PyTerrier."""
