"""C source of tools that run on the host beside an emulator."""
