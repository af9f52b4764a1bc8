"""PyTorch alone: every op, on any device and in any number type."""
