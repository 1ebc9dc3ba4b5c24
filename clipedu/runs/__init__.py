"""What is saved of a training run: checkpoints, folder and history, and how an interrupted run resumes."""
