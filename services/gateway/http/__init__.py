"""HTTP itself: connections, routing, requests, responses, problems, API keys."""
