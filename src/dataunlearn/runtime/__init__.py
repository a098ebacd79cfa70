"""What every room stands on: random streams, progress, files, folders, the machine."""
