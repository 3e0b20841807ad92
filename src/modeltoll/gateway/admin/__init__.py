"""What a gateway serves on its admin address: health and metrics, the admin API, the dashboard, the playground."""
