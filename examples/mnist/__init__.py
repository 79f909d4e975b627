"""A binary LeNet and a binary multi-layer perceptron on MNIST."""
