"""OpenAI's protocol over the engine, its keys and metrics, and the page."""
