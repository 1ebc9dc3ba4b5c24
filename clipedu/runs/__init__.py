"""What is kept of a training run: checkpoints, the run's folder, its history, and how it goes on after a stop."""
