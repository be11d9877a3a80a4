"""C sources that go into every project beside the model: self-check, start-up, semihosting, serial port."""
