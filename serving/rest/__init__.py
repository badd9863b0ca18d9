"""TF Serving's REST API: JSON over HTTP/1.1, for the same models as gRPC."""
