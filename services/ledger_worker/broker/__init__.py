"""The worker's two connections to RabbitMQ: one consumes, one publishes."""
