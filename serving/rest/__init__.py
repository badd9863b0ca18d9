"""TF Serving's REST API: JSON over HTTP/1.1 in front of the same models that gRPC answers for."""
