"""The operator's side of a gateway: health and metrics, the REST API, the dashboard, the playground."""
