"""The command line: its flags, what each command does, and the tables and pictures that it produces."""
