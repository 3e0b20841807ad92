"""The interface of the model server, and its clients."""
