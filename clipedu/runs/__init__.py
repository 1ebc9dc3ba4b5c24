"""What is kept on disk: checkpoints, folder and history of a run, how it resumes, and a frozen encoder's features."""
