"""Programs that show how the parts fit together."""
