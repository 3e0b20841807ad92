"""A LitServe service: python start_litserve.py PORT."""

from __future__ import annotations

import sys

import litserve
import numpy as np
from forest import trained


class Digits(litserve.LitAPI):
    """Rows in, probabilities out."""

    def setup(self, device):
        del device
        self.model = trained()

    def decode_request(self, request):
        return np.array(request["rows"])

    def predict(self, rows):
        return self.model.predict_proba(rows).tolist()

    def encode_response(self, scores):
        return {"scores": scores}


if __name__ == "__main__":
    server = litserve.LitServer(Digits(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
