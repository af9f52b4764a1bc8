"""What the package asks of the machine and its operating system."""
