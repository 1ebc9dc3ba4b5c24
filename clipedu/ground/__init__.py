"""What everything else stands on: errors, files, and this computer."""
