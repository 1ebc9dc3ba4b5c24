"""The basis of everything else: errors, files, and this computer."""
