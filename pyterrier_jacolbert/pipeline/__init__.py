"""What a PyTerrier pipeline is made of: frames in, frames out."""
