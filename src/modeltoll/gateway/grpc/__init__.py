"""The public side over gRPC: the Open Inference Protocol, with the gates that HTTP has."""
