"""The gateway's SQL, one file per noun, each statement above its function. It reads; only API keys are written."""
