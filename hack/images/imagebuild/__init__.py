"""Builds the images in images/ with Docker, Podman or, where no engine answers, buildah. Standard library only."""
