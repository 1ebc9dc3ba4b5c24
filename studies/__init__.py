"""Evidence that takes hours to gather: commands that are run by hand and record what they find."""
