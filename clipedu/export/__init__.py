"""A trained model for a browser: as ONNX, and as a folder with a page that searches pictures without a server."""
