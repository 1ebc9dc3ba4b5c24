"""Pictures with captions: reading, checking, drawing and batching them. Independent of the model."""
