"""From query vectors to ranked docids: exact, two-stage, on a GPU, and pseudo-relevance feedback."""
