"""What kernels compute (`problem`), what a machine offers (`target`), and one folder per machine."""
