"""From documents to the files of an index, in one process or on many workers; knows no artifact."""
