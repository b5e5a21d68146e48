"""The clients of HTTP and of Google Cloud Storage."""
