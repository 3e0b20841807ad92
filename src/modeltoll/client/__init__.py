"""Clients that pay tolls: for httpx, requests and aiohttp, and a proxy for other programs."""
