"""Pictures with captions: read, checked, drawn, and dealt out in batches. Knows no model."""
