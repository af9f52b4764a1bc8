"""What the package asks of the machine and its operating system: processes, threads, memory, files, the terminal."""
