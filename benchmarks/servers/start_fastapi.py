"""A FastAPI application, with the gate inside where settings are given: python start_fastapi.py PORT [SETTINGS.yaml]."""

from __future__ import annotations

import sys

import numpy as np
import uvicorn
from fastapi import FastAPI
from forest import trained
from pydantic import BaseModel

from modeltoll.gateway.middleware import TollMiddleware

app, model = FastAPI(), trained()
for settings in sys.argv[2:]:
    app.add_middleware(TollMiddleware, settings=settings)


class Rows(BaseModel):
    """A request."""

    rows: list[list[float]]


@app.get("/")
def about():
    """Ready."""
    return {"model": "digits"}


@app.post("/predict")
def predict(request: Rows):
    """The probabilities of each row."""
    return {"scores": model.predict_proba(np.array(request.rows)).tolist()}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
