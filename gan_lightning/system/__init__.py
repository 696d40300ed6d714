"""What the operating system gives: files, locks, processes, signals, terminals."""
